"""A polite stop: SIGTERM lets the step finish and the state be saved."""

import os
import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils


class StopRequest:
  """Remembers a SIGTERM until the step is over."""

  def __init__(self):
    self._asked = False

  def __enter__(self) -> 'StopRequest':
    self._old = None
    if threading.current_thread() is threading.main_thread():
      self._old = signal.signal(signal.SIGTERM, self._remember)
    return self

  def __exit__(self, *_: object) -> None:
    if self._old is not None:
      signal.signal(signal.SIGTERM, self._old)

  def _remember(self, *_: object) -> None:
    self._asked = True
    os.write(2, b'asked to stop: saving after this step\n')

  def asked(self, *, agree: bool) -> bool:
    """Whether to stop now.

    Args:
      agree: Whether several processes shall ask each other; they must all do
        so at the same step, and stop at no other.
    """
    if jax.process_count() == 1:
      return self._asked
    if not agree:
      return False
    return bool(np.any(multihost_utils.process_allgather(self._asked)))
