"""Exceptions that are no defects: errors a user can fix, a requested stop.

An error that a user can fix is one line, no traceback, exit code 2.
"""

import zipfile
import zlib

STOPPED = 75  # exit code of a run that wants the same command again
INTERRUPTED = 130  # exit code after a Ctrl-C
# What numpy raises when an .npz file is damaged, depending on where.
DAMAGED_NPZ = (
  OSError,
  EOFError,
  KeyError,
  MemoryError,
  RuntimeError,
  ValueError,
  zipfile.BadZipFile,
  zlib.error,
)


class UsageError(Exception):
  """Says in one line what was expected, what it got and what to do.

  Commands print it as `error: <message>` and exit with code 2; anything else
  that is raised is a defect of ours and keeps its traceback.
  """
