"""A graceful stop: SIGTERM or Ctrl-C lets the step finish and be saved.

SIGTERM is also how a preemption or a maintenance notice reaches a process:
cloud machines, Kubernetes and Slurm send it before they take the machine away.
"""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils

from musiclm_jax.contracts.errors import INTERRUPTED, STOPPED


class StopRequest:
  """Remembers a SIGTERM or a Ctrl-C until the step is over.

  A second Ctrl-C ends the process at once, as a kill would: what has been
  saved stays, and what was being written is removed at the next start.

  Of several processes jax's preemption service listens to SIGTERM instead, in
  all from the moment they join, and a Ctrl-C is passed on to it. Where one
  gets the signal, it asks all at which step they are and names the step after
  the furthest, within two seconds.
  """

  def __init__(self):
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
      return self._asked
    return multihost_utils.reached_preemption_sync_point(step)
