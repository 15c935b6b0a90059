"""Locks of open files and folders, which end with the process that holds them.

Without the Unix call nothing can be locked, as on some file systems.
"""

import errno
import os

try:
  import fcntl
except ImportError:  # no Unix
  fcntl = None


def lock(descriptor: int, *, wait: bool) -> None:
  """Locks an open file or folder for this process alone.

  Args:
    descriptor: Of the file; closing it ends the lock.
    wait: Whether to wait while another process holds it.

  Raises:
    BlockingIOError: If another process holds it and `wait` is false.
    OSError: If nothing can be locked here.
  """
  if fcntl is None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
  fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
