"""Progress of a long job: one event type, passed to a callback.

Meter.advance, Meter.at -> Progress -> callback (a bar, a page, a file)
"""

import dataclasses
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far one stage of a job is.

  Attributes:
    stage: Its name, such as `'semantic'`.
    done: Units that are done, from 0 to `total`.
    total: Units in all.
    unit: What is counted, in the plural: `'tokens'`, `'steps'`.
    elapsed: Seconds since the stage began.
    eta: Seconds that are left, where that can be told already.
  """

  stage: str
  done: float
  total: float
  unit: str
  elapsed: float
  eta: float | None


ProgressCallback = Callable[[Progress], None]


def ignore(event: Progress) -> None:
  """Takes an event and shows nothing."""


class Meter:
  """Counts one stage and gives the callback an event at every change.

  Speed is measured from the first unit on, whose time is mostly compiling, and
  without what was skipped.
  """

  def __init__(
    self,
    stage: str,
    total: float,
    unit: str,
    callback: ProgressCallback | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Begins a stage and gives its first event, of nothing done.

    Args:
      stage: Its name.
      total: Units in all.
      unit: What is counted, in the plural.
      callback: Takes the events; None takes none.
      clock: Seconds that only grow.
    """
    self._stage, self._total, self._unit = stage, total, unit
    self._callback, self._clock = callback or ignore, clock
    self._begun = clock()
    self._done = 0.0
    # Units and time from which on speed is measured.
    self._start: tuple[float, float] | None = None
    self._report(self._begun)

  def advance(self, units: float = 1, skipped: bool = False) -> None:
    """Counts more units; `skipped` ones were done by an earlier run."""
    self.at(self._done + units, skipped)

  def at(self, done: float, skipped: bool = False) -> None:
    """Says how many units are done, of which no more than `total` count."""
    units = min(max(done, 0.0), self._total) - self._done
    now = self._clock()
    self._done += units
    if skipped and self._start:
      self._start = self._start[0] + units, self._start[1]
    elif not skipped and not self._start:
      self._start = self._done, now
    self._report(now)

  def _report(self, now: float) -> None:
    left, eta = self._total - self._done, None
    if left <= 0:
      eta = 0.0
    elif self._start and self._done > self._start[0] and now > self._start[1]:
      speed = (self._done - self._start[0]) / (now - self._start[1])
      eta = left / speed
    self._callback(
      Progress(
        self._stage,
        self._done,
        self._total,
        self._unit,
        now - self._begun,
        eta,
      )
    )
