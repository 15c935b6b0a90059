"""Atomic files and folders: a reader sees the whole or nothing of it.

What is being written stands beside its place under a short name of ours,
`.musiclm_jax-<16 digits>.part`, and is locked as long as its writer lives: so
what a killed writer left is known from what is still growing.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from musiclm_jax.contracts import file_lock

_PART = re.compile(r'\.musiclm_jax-[0-9a-f]{16}\.part')


@contextlib.contextmanager
def atomic_open(path: str | os.PathLike, mode: str = 'w') -> Iterator[IO]:
  """Opens a file that takes the place of `path` when all went well.

  On any error, a full disk included, nothing of it is left and an older
  `path` stays as it was. The umask decides who may read it; where `path` is a
  link, what it points to is replaced.

  Args:
    path: Where the file shall be; its folder is made.
    mode: `'w'` (UTF-8) or `'wb'`.

  Raises:
    OSError: Naming `path`.
  """
  with atomic_path(path) as part, naming(path):
    encoding = None if 'b' in mode else 'utf-8'
    with open(part, mode, encoding=encoding) as file:
      yield file


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
  """As `atomic_open`, for writers that open the file themselves.

  Yields:
    The name of an empty file to write.
  """
  final = Path(os.path.realpath(path))
  with naming(path):
    final.parent.mkdir(parents=True, exist_ok=True)
    part, descriptor = _begin(final.parent)
  try:
    yield part
    with naming(path):
      _sync(part)
      os.replace(part, final)
  finally:
    part.unlink(missing_ok=True)
    os.close(descriptor)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
  """Yields a new folder that takes the place of `path` when all went well.

  What is at `path` is replaced: callers have checked that it is ours.

  Raises:
    OSError: Naming `path`, if it cannot be made or replaced.
  """
  final = Path(os.path.realpath(path))
  with naming(path):
    final.parent.mkdir(parents=True, exist_ok=True)
  with part_folder(final.parent) as part:
    yield part
    with naming(path):
      for file in part.rglob('*'):
        if file.is_file():
          _sync(file)
      _exchange(part, final)


@contextlib.contextmanager
def part_folder(parent: Path) -> Iterator[Path]:
  """Yields a folder in `parent` that is removed at the end."""
  part, descriptor = _begin(parent, folder=True)
  try:
    yield part
  finally:
    shutil.rmtree(part, ignore_errors=True)
    os.close(descriptor)


def _exchange(part: Path, final: Path) -> None:
  """Renames `part` to `final`; what was there is called `part` afterwards."""
  if not os.path.lexists(final):
    os.rename(part, final)
    return
  aside = part.with_suffix('.old')
  os.rename(final, aside)
  try:
    os.rename(part, final)
  except BaseException:
    os.rename(aside, final)
    raise
  os.rename(aside, part)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes `text` to `path` as UTF-8, whole or not at all."""
  with atomic_open(path, 'wb') as file:
    file.write(text.encode())


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Lets an OSError that names no file, or one of ours, name `path`."""
  try:
    yield
  except OSError as error:
    named = error.filename
    name = '' if isinstance(named, int) else os.fsdecode(named or '')
    if not name or any(map(is_part, Path(name).parts)):
      error.filename = os.fspath(path)
    raise


def is_part(name: str) -> bool:
  """Whether a file of that name is one that is, or was, being written."""
  return _PART.fullmatch(name) is not None


def probe(folder: Path) -> None:
  """Makes and removes a part file in `folder`.

  Raises:
    OSError: If that is not possible.
  """
  part, descriptor = _begin(folder)
  part.unlink()
  os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
  """Removes what killed writers left in `folder`, and nothing else."""
  with contextlib.suppress(OSError):
    for part in list(folder.iterdir()):
      if is_part(part.name):
        _remove_if_left(part)


def _remove_if_left(part: Path) -> None:
  with contextlib.suppress(OSError):
    is_folder = part.is_dir()
    descriptor = os.open(part, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
      file_lock.lock(descriptor, wait=False)
      if is_folder:
        shutil.rmtree(part)
      else:
        part.unlink()
    finally:
      os.close(descriptor)


def _begin(parent: Path, folder: bool = False) -> tuple[Path, int]:
  """Makes a part and locks it; its mode is the umask's."""
  while True:
    part = parent / f'.musiclm_jax-{secrets.token_hex(8)}.part'
    if folder:
      os.mkdir(part)
      descriptor = os.open(part, os.O_RDONLY)
    else:
      flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
      descriptor = os.open(part, flags, 0o666)
    # Some file systems lock nothing: there, nothing is ever called left.
    with contextlib.suppress(OSError):
      file_lock.lock(descriptor, wait=True)
    if part.exists():
      return part, descriptor
    os.close(descriptor)  # taken for a leftover before it was locked


def _sync(file: Path) -> None:
  with open(file, 'rb+') as opened:
    os.fsync(opened.fileno())
