"""A polite stop: SIGTERM lets the step finish and the state be saved.

SIGTERM is also how a preemption or a maintenance notice reaches a process:
cloud machines, Kubernetes and Slurm send it before they take the machine away.
"""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils


class StopRequest:
  """Remembers a SIGTERM until the step is over.

  Of several processes jax's preemption service listens instead, in all from
  the moment they join. Where one hears the signal, it asks all at which step
  they are and names the step after the furthest, within two seconds.
  """

  def __init__(self):
    self._asked = False

  def __enter__(self) -> 'StopRequest':
    self._old = None
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and jax.process_count() == 1:
      self._old = signal.signal(signal.SIGTERM, self._remember)
    return self

  def __exit__(self, *_: object) -> None:
    if self._old is not None:
      signal.signal(signal.SIGTERM, self._old)

  def _remember(self, *_: object) -> None:
    self._asked = True
    os.write(2, b'asked to stop: saving after this step\n')

  def asked(self, step: int) -> bool:
    """Whether to stop after `step`, in all processes at the same one.

    Must be called after every step.
    """
    if jax.process_count() == 1:
      return self._asked
    return multihost_utils.reached_preemption_sync_point(step)
