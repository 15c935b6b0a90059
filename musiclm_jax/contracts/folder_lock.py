"""A folder that one run at a time writes into."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.printable import printable


@contextlib.contextmanager
def hold(folder: str | os.PathLike, doing: str) -> Iterator[None]:
  """Holds a folder until the block ends, or the process does.

  The folder itself is locked, so nothing is left in it; one that is missing is
  made, and removed again if it is empty after an error. Where the file system
  locks no folders, nobody is refused.

  Args:
    folder: What to hold.
    doing: What is done in it, such as `'writing tokens into'`.

  Raises:
    UsageError: If another run holds it.
    OSError: If it cannot be made.
  """
  folder = Path(folder).absolute()
  made = [path for path in (folder, *folder.parents) if not path.exists()]
  folder.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    _lock(descriptor, folder, doing)
    yield
  except BaseException:
    for path in made:
      with contextlib.suppress(OSError):  # not empty
        path.rmdir()
    raise
  finally:
    os.close(descriptor)


def _lock(descriptor: int, folder: Path, doing: str) -> None:
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    raise UsageError(
      f"another run is {doing} '{printable(folder)}': wait for it, or choose "
      'another folder'
    ) from error
  except OSError:
    return
