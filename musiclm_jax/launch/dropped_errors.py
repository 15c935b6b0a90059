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

from musiclm_jax.contracts.errors import STOPPED

_AGAIN_SECONDS = 0.05  # until a signal that was dropped comes again
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def listen() -> None:
  """Hears of all that is dropped from now on."""
  sys.unraisablehook = _hear


def _hear(dropped: Any) -> None:
  """Sends a dropped signal again; passes over what failed writes leave behind.

  Orbax's other, cancelled writes report to an event loop that is gone; the
  failure itself has been raised.
  """
  error = dropped.exc_value
  if number := _signal(error):
    again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
  elif not (_is_full(error) or 'Event loop is closed' in str(error)):
    sys.__unraisablehook__(dropped)


def _signal(error: BaseException | None) -> int:
  """The signal whose handler raises such an error; 0: none."""
  if isinstance(error, KeyboardInterrupt):
    return signal.SIGINT
  if isinstance(error, SystemExit) and error.code == STOPPED:
    return signal.SIGTERM
  return 0


def _is_full(error: BaseException | None) -> bool:
  return isinstance(error, OSError) and error.errno in _FULL_DISK
