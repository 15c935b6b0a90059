"""Windows: how a stage with a short crop makes a long stream of tokens.

A later window takes the last half of a crop that exists as its prefix and adds
the other half (MusicLM §6 for semantic tokens; ours for coarse ones). All later
windows are of one shape, so that each stage compiles at most twice; the first
one is as short as it takes for the last to end where the stream shall end, so
that no stage makes or reads more than that.
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


def windows(total: int, crop: int) -> list[Window]:
  """Covers exactly `total` frames.

  Args:
    total: Frames wanted.
    crop: Frames that a stage sees at once, at least 2.

  Returns:
    Windows in order; one of `total` frames where these fit into the crop.
  """
  prefix = crop // 2
  hop = crop - prefix
  later = math.ceil(max(total - crop, 0) / hop)
  covered = [Window(0, 0, total - later * hop)]
  for _ in range(later):
    covered.append(Window(covered[-1].end - prefix, prefix, hop))
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
