"""The one line of the demo: stage, its progress, memory, ETA of the whole."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO

_PRINT_EVERY_SECONDS = 30.0  # where the line cannot be rewritten
_TRUSTED_PROGRESS = 0.1


class ProgressLine:
  """Rewrites one line on a terminal; elsewhere prints it now and then.

  Attributes:
    expected: Seconds per stage, in order, on the machine of the table.
    measured: Seconds of the stages that are done.
  """

  def __init__(
    self, expected: Mapping[str, float], stream: TextIO | None = None
  ):
    self.expected = dict(expected)
    self.measured: dict[str, float] = {}
    self._stream = stream or sys.stdout
    self._rewrites = self._stream.isatty()
    self._begun = time.monotonic()
    self._printed_at = -_PRINT_EVERY_SECONDS
    self._printed_stage = ''

  def done(self, stage: str, seconds: float) -> None:
    """Notes what a stage took; the estimate of the others follows."""
    self.measured[stage] = seconds

  def remaining(self, stage: str, seconds: float, share: float | None) -> float:
    """Seconds left of the whole, given the running stage's progress.

    Stages to come are scaled by how the finished ones compare with the
    table; the running one by its own progress as soon as that says much.
    """
    names = list(self.expected)
    past = [name for name in names if name in self.measured]
    table = sum(self.expected[name] for name in past)
    speed = sum(self.measured[name] for name in past) / table if table else 1.0
    to_come = [
      name for name in names if name not in self.measured and name != stage
    ]
    left = speed * sum(self.expected[name] for name in to_come)
    if share is not None and share >= _TRUSTED_PROGRESS:
      return left + seconds * (1 - share) / share
    return left + max(0.0, speed * self.expected[stage] - seconds)

  def show(
    self, stage: str, seconds: float, share: float | None, peak_bytes: int
  ) -> None:
    """Shows where the demo stands."""
    now = time.monotonic()
    fresh = stage != self._printed_stage
    recent = now - self._printed_at < _PRINT_EVERY_SECONDS
    if not self._rewrites and not fresh and recent:
      return
    self._printed_at, self._printed_stage = now, stage
    position = list(self.expected).index(stage) + 1
    percent = '  --%' if share is None else f'{100 * share:4.0f}%'
    text = (
      f'[{position:2d}/{len(self.expected)}] {stage:<10} {percent}  '
      f'{clock(seconds)}  {peak_bytes / 1e9:.1f} GB  '
      f'all {clock(now - self._begun)}, '
      f'ETA {clock(self.remaining(stage, seconds, share))}'
    )
    self._write(text)

  def say(self, text: str) -> None:
    """Prints a line of its own above the progress line."""
    end = '\x1b[2K\r' if self._rewrites else ''
    self._stream.write(f'{end}{text}\n')
    self._stream.flush()

  def _write(self, text: str) -> None:
    self._stream.write(f'\x1b[2K\r{text}' if self._rewrites else f'{text}\n')
    self._stream.flush()


def clock(seconds: float) -> str:
  """Seconds as m:ss or h:mm:ss."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes}:{seconds:02d}'
