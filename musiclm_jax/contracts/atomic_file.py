"""Atomic files: a reader sees the whole file or none of it."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def atomic_open(path: str | os.PathLike, mode: str = 'w') -> Iterator[IO]:
  """Opens a temporary neighbour of `path` and renames it when all went well.

  On any error, a full disk included, the temporary file is removed and an
  older `path` stays as it was.

  Args:
    path: Where the file shall be; its folder is made.
    mode: `'w'` or `'wb'`.
  """
  path = Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  descriptor, temporary = tempfile.mkstemp(
    dir=path.parent, prefix=f'.{path.name}.', suffix='.part'
  )
  try:
    with os.fdopen(descriptor, mode) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes `text` to `path` as UTF-8, whole or not at all."""
  with atomic_open(path, 'wb') as file:
    file.write(text.encode())
