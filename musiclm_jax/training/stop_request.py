"""A graceful stop: SIGTERM, Ctrl-C or the time lets a step finish and be saved.

SIGTERM is also how a preemption or a maintenance notice reaches a process:
cloud machines, Kubernetes and Slurm send it before they take the machine away.
"""

import os
import signal
import threading
import time
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import INTERRUPTED, STOPPED
from musiclm_jax.training.sharding_report import held

_SAVE_SECONDS = 3.0  # to save the smallest state and to leave
_SAVED_BYTES = 5e7  # a second, written, read back and exported; a slow disk


class StopRequest:
  """Remembers a SIGTERM or a Ctrl-C until the step is over; watches the time.

  A second Ctrl-C ends the process at once, as a kill would: what has been
  saved stays, and what was being written is removed at the next start.

  Of several processes jax's preemption service listens to SIGTERM instead, in
  all from the moment they join, and a Ctrl-C is passed on to it. Where one
  gets the signal, it asks all at which step they are and names the step after
  the furthest, within two seconds.
  """

  def __init__(
    self,
    seconds_left: Callable[[], float] | None = None,
    state: PyTree = (),
  ):
    """Takes what is known of the time.

    Args:
      seconds_left: Tells how long the process may go on; None is for ever.
      state: Described; must be saved before.
    """
    self._seconds_left = seconds_left
    self._to_save = _SAVE_SECONDS + held(state)[1] / _SAVED_BYTES
    self._longest, self._last = 0.0, None
    self._asked = self._interrupted = False
    self._old: dict[int, object] = {}

  def __enter__(self) -> 'StopRequest':
    if threading.current_thread() is threading.main_thread():
      self._listen(signal.SIGINT)
      if jax.process_count() == 1:
        self._listen(signal.SIGTERM)
    return self

  def __exit__(self, *_: object) -> None:
    for number, old in self._old.items():
      signal.signal(number, old)

  def _listen(self, number: int) -> None:
    # What ignores Ctrl-C, such as a job in the background, goes on doing so.
    if signal.getsignal(number) is not signal.SIG_IGN:
      self._old[number] = signal.signal(number, self._remember)

  def _remember(self, number: int, _: object) -> None:
    if number == signal.SIGINT:
      if self._interrupted:
        os._exit(INTERRUPTED)
      self._interrupted = True
      if jax.process_count() > 1:
        os.kill(os.getpid(), signal.SIGTERM)
    self._asked = True
    again = '; Ctrl-C again ends at once' if self._interrupted else ''
    os.write(2, f'asked to stop: saving after this step{again}\n'.encode())

  @property
  def code(self) -> int:
    """The exit code that says how it was asked.

    After a Ctrl-C it is not the one that launchers start again.
    """
    return INTERRUPTED if self._interrupted else STOPPED

  def asked(self, step: int) -> bool:
    """Whether to stop after `step`, in all processes at the same one.

    Must be called after every step.
    """
    if jax.process_count() == 1:
      return self._asked or self._is_time()
    # The first process's clock counts, and reaches the others as a SIGTERM.
    if jax.process_index() == 0 and self._is_time():
      os.kill(os.getpid(), signal.SIGTERM)
    return multihost_utils.reached_preemption_sync_point(step)

  def _is_time(self) -> bool:
    """Whether another round as long as the longest would be one too many."""
    if self._seconds_left is None:
      return False
    now = time.monotonic()
    if self._last is not None:  # the first round compiles
      self._longest = max(self._longest, now - self._last)
    self._last = now
    return self._seconds_left() < self._to_save + 2 * self._longest
