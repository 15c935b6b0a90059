"""What is set before jax starts: variables, memory, quiet libraries, its cache.

The folder in which jax keeps compiled programs is repaired, or not used.
"""

import contextlib
import ctypes
import logging as standard_logging
import os
import re
import sys
import time
import warnings
import zlib
from collections.abc import MutableMapping
from pathlib import Path

from musiclm_jax.contracts.terminal import printable
from musiclm_jax.launch import dropped_errors

CACHE_FOLDER = 'JAX_COMPILATION_CACHE_DIR'
_ENTRY = re.compile(r'.+-[0-9a-f]{64}-cache')  # of the cache, as jax names them
_ZSTD = b'\x28\xb5\x2f\xfd'
_ACCELERATORS = ('accel*', 'vfio/[0-9]*', 'nvidia[0-9]*', 'kfd', 'dxg')
# Parameters of glibc's mallopt: (number in malloc.h, value).
_MALLOC = {
  'mmap_threshold': (-3, 16 << 20),
  'trim_threshold': (-1, 64 << 20),
  'arena_max': (-8, 2),
}


def prepare(environment: MutableMapping[str, str]) -> None:
  """Quiets libraries and sets jax's defaults; what a user has set stays."""
  environment.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  environment.setdefault('GRPC_VERBOSITY', 'ERROR')
  if sys.platform == 'linux' and not any(
    any(Path('/dev').glob(pattern)) for pattern in _ACCELERATORS
  ):
    # libtpu and CUDA wheels search long and loudly for what is not there.
    environment.setdefault('JAX_PLATFORMS', 'cpu')
  if environment.get('JAX_PLATFORMS') == 'cpu':
    environment.setdefault('TPU_SKIP_MDS_QUERY', '1')
  environment.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
  if reason := open_cache(environment):
    environment['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
    print(printable(reason), file=sys.stderr, flush=True)
  dropped_errors.listen()
  standard_logging.getLogger('asyncio').addFilter(_is_news)
  # Said by libraries about each other; nothing a user can act on.
  warnings.filterwarnings('ignore', category=DeprecationWarning)
  warnings.filterwarnings('ignore', category=FutureWarning)
  # What Orbax had still to write when another of its writes failed.
  warnings.filterwarnings('ignore', 'coroutine .* was never awaited')


def keep_freed_memory() -> None:
  """Tells glibc to use freed memory again instead of giving it back.

  Otherwise every piece that is read (5 MB) is mapped and unmapped four times,
  and two thirds of the time for reading goes into page faults. Few arenas
  keep the memory of reading threads small.
  """
  if not sys.platform.startswith('linux'):
    return
  with contextlib.suppress(OSError, AttributeError):
    mallopt = ctypes.CDLL('libc.so.6').mallopt
    for parameter, value in _MALLOC.values():
      mallopt(parameter, value)


def _is_news(record: standard_logging.LogRecord) -> bool:
  """Passes over Orbax's other writes that failed: the failure was raised.

  Nobody asks for their exceptions, and asyncio says so when it pleases.
  """
  return 'exception was never retrieved' not in record.getMessage()


def open_cache(environment: MutableMapping[str, str]) -> str | None:
  """Chooses the folder where the user has not, and repairs it.

  Returns:
    None, or a line on why there can be no cache here.
  """
  if CACHE_FOLDER not in environment:
    try:
      home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the user database
      home = Path()
    if not home.is_absolute():
      return (
        'no home folder, hence no compilation cache: every program is compiled '
        f'anew; set HOME or {CACHE_FOLDER}'
      )
    environment[CACHE_FOLDER] = str(home / '.cache' / 'musiclm_jax' / 'xla')
  folder = environment[CACHE_FOLDER]
  if not folder or '://' in folder:  # none is wanted, or jax opens a bucket
    return None
  try:
    repair_cache(Path(folder))
  except OSError as error:
    return (
      f"the compilation cache '{folder}' cannot be written "
      f'({error.strerror}): every program is compiled anew; set {CACHE_FOLDER}'
    )
  return None


def repair_cache(folder: Path) -> None:
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
