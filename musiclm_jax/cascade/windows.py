"""Windows: how a stage with a short crop makes a long stream of tokens.

The first window of a stream is a whole crop; each later one takes the last
half of what exists as its prefix and adds the other half (MusicLM section
4.4 for semantic tokens; for coarse ones recipe section 5). All later windows
are of one shape, so that each stage compiles at most twice.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Window:
  """One call of a stage.

  Attributes:
    start: First frame that the stage sees.
    prefix: Frames that exist already.
    frames: Frames that it adds.
  """

  start: int
  prefix: int
  frames: int

  @property
  def end(self) -> int:
    """The frame after the last one."""
    return self.start + self.prefix + self.frames


def windows(total: int, crop: int, grid: int = 1) -> list[Window]:
  """Covers at least `total` frames.

  Args:
    total: Frames wanted; the last window may make more.
    crop: Frames that a stage sees at once, a multiple of `grid`.
    grid: Starts are multiples of this many frames.

  Returns:
    Windows in order. Where `total` fits into the crop, one window of
    exactly `total` frames, rounded up to the grid.
  """
  first = min(crop, math.ceil(total / grid) * grid)
  covered = [Window(0, 0, first)]
  # At least one frame must be new, and at least one must be seen again.
  prefix = max(crop // 2 // grid, 1) * grid
  while covered[-1].end < total:
    covered.append(Window(covered[-1].end - prefix, prefix, crop - prefix))
  return covered


def chunks(total: int, crop: int) -> list[Window]:
  """Cuts `total` frames into independent chunks of one shape.

  The last chunk is moved back to end with the stream instead of being padded:
  what it makes for frames that an earlier chunk covers is dropped, and no
  chunk is conditioned on padding. `prefix` counts these frames.
  """
  crop = min(crop, total)
  cut = []
  for end in range(crop, total + crop, crop):
    start = min(end, total) - crop
    done = cut[-1].end if cut else 0
    cut.append(Window(start, done - start, start + crop - done))
  return cut
