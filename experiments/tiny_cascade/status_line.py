"""The one line of a run: its stages, their progress, memory, ETA."""

import sys
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from experiments.tiny_cascade import slots
from experiments.tiny_cascade.plan import CascadeStage
from musiclm_jax.training.speed import duration

_PRINT_EVERY_SECONDS = 30.0  # where the line cannot be rewritten
_TRUSTED_PROGRESS = 0.1


class _StageState(NamedTuple):
  """Of a stage that runs: seconds so far, share done, memory."""

  seconds: float
  share: float | None
  peak_bytes: int


class ProgressLine:
  """Rewrites one line on a terminal; elsewhere prints it now and then.

  Safe to use from threads.

  Attributes:
    measured: Seconds of the stages that are done.
  """

  def __init__(
    self, stages: Sequence[CascadeStage], stream: TextIO | None = None
  ):
    """Takes all stages in order, with their seconds on the usual machine."""
    self.measured: dict[str, float] = {}
    self._stages = list(stages)
    self._slots = len(slots.cores_of_slots())
    self._running: dict[str, _StageState] = {}
    self._stream = stream or sys.stdout
    self._rewrites = self._stream.isatty()
    self._begun = time.monotonic()
    self._printed_at = -_PRINT_EVERY_SECONDS
    self._printed: set[str] = set()
    self._lock = threading.RLock()

  def done(self, stage: str, seconds: float) -> None:
    """Notes what a stage took; the estimate of the others follows."""
    with self._lock:
      self.measured[stage] = seconds
      self._running.pop(stage, None)

  def remaining(self) -> float:
    """Seconds left of the whole.

    Stages to come are scaled by how the finished ones compare with the
    table; a running one by its own progress as soon as that says much.
    """
    past = [s for s in self._stages if s.name in self.measured]
    table = sum(stage.expected_seconds for stage in past)
    speed = sum(self.measured[s.name] for s in past) / table if table else 1.0
    left = {
      s.name: _left(speed * s.expected_seconds, self._running.get(s.name))
      for s in self._stages
      if s.name not in self.measured
    }
    return slots.makespan(self._stages, left, self._running, self._slots)

  def show(
    self, stage: str, seconds: float, share: float | None, peak_bytes: int
  ) -> None:
    """Shows where the run stands."""
    with self._lock:
      self._running[stage] = _StageState(seconds, share, peak_bytes)
      now = time.monotonic()
      fresh = not self._running.keys() <= self._printed
      recent = now - self._printed_at < _PRINT_EVERY_SECONDS
      if not self._rewrites and not fresh and recent:
        return
      self._printed_at, self._printed = now, set(self._running)
      position = len(self.measured) + len(self._running)
      memory = sum(state.peak_bytes for state in self._running.values())
      running = ' + '.join(
        f'{name} {_percent(state.share)} {duration(state.seconds)}'
        for name, state in self._running.items()
      )
      text = (
        f'[{position:2d}/{len(self._stages)}] {running}  '
        f'{memory / 1e9:.1f} GB  all {duration(now - self._begun)}, '
        f'ETA {duration(self.remaining())}'
      )
      self._write(text)

  def say(self, text: str) -> None:
    """Prints a line of its own above the progress line."""
    with self._lock:
      end = '\x1b[2K\r' if self._rewrites else ''
      self._stream.write(f'{end}{text}\n')
      self._stream.flush()

  def _write(self, text: str) -> None:
    self._stream.write(f'\x1b[2K\r{text}' if self._rewrites else f'{text}\n')
    self._stream.flush()


def _left(expected: float, state: _StageState | None) -> float:
  if state is None:
    return expected
  if state.share is not None and state.share >= _TRUSTED_PROGRESS:
    return state.seconds * (1 - state.share) / state.share
  return max(0.0, expected - state.seconds)


def _percent(share: float | None) -> str:
  return '--%' if share is None else f'{100 * share:.0f}%'
