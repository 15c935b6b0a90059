"""Errors that Python drops, since a destructor or a callback raised them.

What a signal's handler raises is among them where the signal came at such a
moment, as in jax's callback of the garbage collector.
"""

import errno
import os
import signal
import sys
import threading
from typing import Any

_AGAIN_SECONDS = 0.05  # until a signal that was dropped comes again
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What the handlers raise of the signals that end a command.
_SIGNALS = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}


def listen() -> None:
  """Hears of all that is dropped from now on."""
  sys.unraisablehook = _hear


def _hear(dropped: Any) -> None:
  """Sends a dropped signal again; passes over what failed writes leave behind.

  Orbax's other, cancelled writes report to an event loop that is gone; the
  failure itself has been raised.
  """
  error = dropped.exc_value
  if (number := _SIGNALS.get(dropped.exc_type)) is not None:
    again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
  elif not (_is_full(error) or 'Event loop is closed' in str(error)):
    sys.__unraisablehook__(dropped)


def _is_full(error: BaseException | None) -> bool:
  return isinstance(error, OSError) and error.errno in _FULL_DISK
