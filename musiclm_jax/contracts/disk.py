"""Room on the disk, looked at before work whose size is known."""

import shutil
from pathlib import Path

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError


def check_room(path: Path, count: float, what: str) -> None:
  """Checks that `count` bytes fit where `path` is or will be.

  Args:
    path: Of the file or folder.
    count: Bytes that will be written.
    what: Names them.

  Raises:
    UsageError: If they do not fit.
  """
  try:
    free = shutil.disk_usage(paths.standing(path)).free
  except OSError:
    return  # a file system that does not say
  if count > free:
    raise UsageError(
      f"{what} need {_size(count)} at '{path}', where {_size(free)} are free: "
      'make room or choose another place'
    )


def _size(count: float) -> str:
  return f'{count / 1e9:.1f} GB' if count >= 1e8 else f'{count / 1e6:.1f} MB'
