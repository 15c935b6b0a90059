"""The clock of a training: how fast it goes, and where the rest of time goes.

Wall time is spent on `compile`, `restore`, `save`, `evaluate` and `data`
(waiting for a batch while no step runs); goodput is what is left of it.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping


@dataclasses.dataclass(frozen=True)
class Pace:
  """How a run stands.

  Attributes:
    steps_per_second: Since the last look, without compiling, saving and
      evaluating; None before there was a step to time.
    seconds_left: To the last step, with all that goes with it, or None.
    goodput: Share of the wall time that went into steps.
    data_share: Of the time of `steps_per_second` that went into waiting.
    lost: Seconds since the start, by what they went into.
  """

  steps_per_second: float | None
  seconds_left: float | None
  goodput: float
  data_share: float
  lost: Mapping[str, float]


class Clock:
  """Counts seconds; starts when it is made."""

  def __init__(self, now: Callable[[], float] = time.monotonic):
    """Begins to count. `now` returns the seconds since some moment."""
    self._now = now
    self._start = now()
    self._lost: dict[str, float] = collections.defaultdict(float)
    self._first: tuple[int, float] | None = None
    self._lap: tuple[int, float, dict[str, float]] | None = None
    self._step_seconds = 0.0

  @property
  def lost(self) -> dict[str, float]:
    """Seconds that were no steps, by what they went into."""
    return dict(self._lost)

  @contextlib.contextmanager
  def spending(self, what: str) -> Iterator[None]:
    """Books the time of a block, of which no step is part."""
    begun = self._now()
    try:
      yield
    finally:
      self._lost[what] += self._now() - begun

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Books a wait for data, less what a step takes that runs meanwhile."""
    begun = self._now()
    try:
      yield
    finally:
      waited = self._now() - begun - self._step_seconds
      self._lost['data'] += max(0.0, waited)

  @contextlib.contextmanager
  def timing_step(self) -> Iterator[None]:
    """Takes the time of a block that waits for the one step that runs."""
    begun = self._now()
    yield
    self._step_seconds = self._now() - begun

  def begin(self, step: int) -> None:
    """Starts to count steps after `step`, the first, which compiled."""
    self._first = step, self._now()
    self._lap = step, self._now(), self.lost

  def pace(self, step: int, total: int) -> Pace:
    """Tells how the run stands after `step` of `total`; ends a lap."""
    now = self._now()
    first, first_at = self._first
    lap, lap_at, lost_before = self._lap
    self._lap = step, now, self.lost
    lost = {k: v - lost_before.get(k, 0.0) for k, v in self._lost.items()}
    data = lost.pop('data', 0.0)
    stepping = max(now - lap_at - sum(lost.values()), 1e-9)
    mean = (now - first_at) / (step - first) if step > first else None
    return Pace(
      steps_per_second=(step - lap) / stepping if step > lap else None,
      seconds_left=None if mean is None else mean * (total - step),
      goodput=1.0 - sum(self._lost.values()) / max(now - self._start, 1e-9),
      data_share=data / stepping,
      lost=self.lost,
    )


def duration(seconds: float) -> str:
  """Seconds as m:ss or h:mm:ss."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes}:{seconds:02d}'
