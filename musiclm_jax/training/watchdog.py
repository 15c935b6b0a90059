"""Says that a wait has become long, while it lasts."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 30.0


class Watchdog:
  """A thread that looks at how long the block in hand has taken.

  Each line doubles the patience, so a bad night of a slow disk is a handful
  of lines.
  """

  def __init__(self, tell: Callable[[float], None], patience: float):
    """Sleeps until it is entered.

    Args:
      tell: Called from the thread with the seconds waited so far.
      patience: Seconds before the first line.
    """
    self._tell, self._patience = tell, patience
    self._since: float | None = None
    self._ended = threading.Event()
    self._interval = patience / 10
    self._thread = threading.Thread(target=self._look, daemon=True)

  def __enter__(self) -> 'Watchdog':
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()

  @contextlib.contextmanager
  def watching(self) -> Iterator[None]:
    """Watches over a block."""
    self._since = time.monotonic()
    try:
      yield
    finally:
      self._since = None

  def _look(self) -> None:
    while not self._ended.wait(self._interval):
      since = self._since
      if since is None:
        continue
      waited = time.monotonic() - since
      if waited > self._patience:
        self._patience *= 2
        self._tell(waited)
