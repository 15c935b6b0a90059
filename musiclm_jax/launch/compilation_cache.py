"""The folder in which jax keeps compiled programs: mended, or done without."""

import os
import re
import sys
import time
import zlib
from collections.abc import MutableMapping
from pathlib import Path

FOLDER = 'JAX_COMPILATION_CACHE_DIR'
_ENTRY = re.compile(r'.+-[0-9a-f]{64}-cache')  # as jax names them
_ZSTD = b'\x28\xb5\x2f\xfd'


def open_folder(environment: MutableMapping[str, str]) -> str | None:
  """Chooses the folder where the user has not, and mends it.

  Returns:
    None, or a line on why there can be no cache here.
  """
  if FOLDER not in environment:
    try:
      home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the user database
      home = Path()
    if not home.is_absolute():
      return (
        'no home folder, hence no compilation cache: every program is compiled '
        f'anew; set HOME or {FOLDER}'
      )
    environment[FOLDER] = str(home / '.cache' / 'musiclm_jax' / 'xla')
  folder = environment[FOLDER]
  if not folder or '://' in folder:  # none is wanted, or jax opens a bucket
    return None
  try:
    mend(Path(folder))
  except OSError as error:
    return (
      f"the compilation cache '{folder}' cannot be written "
      f'({error.strerror}): every program is compiled anew; set {FOLDER}'
    )
  return None


def mend(folder: Path) -> None:
  """Removes truncated entries, which a kill while jax writes one leaves.

  Jax neither reads such an entry nor ever replaces it, so that every later
  run would compile the program again. Only entries that are newer than the
  last look are read, and files with other names than jax gives are left.

  Raises:
    OSError: If the folder cannot be made or written.
  """
  folder.mkdir(parents=True, exist_ok=True)
  stamp, now = folder / '.checked', time.time()
  checked = stamp.stat().st_mtime if stamp.exists() else 0.0
  for entry in folder.iterdir():
    if not _ENTRY.fullmatch(entry.name):
      continue
    try:
      if entry.stat().st_mtime >= checked and not _is_whole(entry):
        entry.unlink()
    except (FileNotFoundError, PermissionError):
      continue  # another run was faster, or it is another user's
  stamp.touch()
  os.utime(stamp, (now, now))


def _is_whole(entry: Path) -> bool:
  data = entry.read_bytes()
  if not data.startswith(_ZSTD):
    decompress, broken = zlib.decompress, zlib.error
  elif sys.version_info >= (3, 14):
    from compression import zstd

    decompress, broken = zstd.decompress, zstd.ZstdError
  else:
    try:
      import zstandard
    except ImportError:  # then jax cannot read it here, but perhaps elsewhere
      return True
    decompress, broken = zstandard.decompress, zstandard.ZstdError
  try:
    decompress(data)
  except broken:
    return False
  return True
