"""Windows: how a stage with a short crop makes a long stream of tokens.

A later window takes the last half of a crop that exists as its prefix and adds
the other half (MusicLM §6 for semantic tokens; ours for coarse ones). All later
windows are of one shape, so that each stage compiles at most twice; the first
one is as short as it takes for the last to end where the stream shall end, so
that no stage makes or reads more than that.
"""

import dataclasses
import math
from collections.abc import Iterable


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


def windows(
  total: int, crop: int, begun: int = 0, cuts: Iterable[int] = ()
) -> list[Window]:
  """Covers exactly the frames from `begun` to `total`.

  Args:
    total: Frames wanted.
    crop: Frames that a stage sees at once, at least 2.
    begun: Frames that exist already, which the first window continues.
    cuts: Frames with which a window shall begin to add, as what conditions
      the music changes there.

  Returns:
    Windows in order; one of `total` frames where these fit into the crop. The
    first one after a cut is the short one, with as long a prefix as there is.
  """
  hop = crop - crop // 2
  covered, at = [], begun
  for stop in sorted({cut for cut in cuts if begun < cut < total} | {total}):
    room = hop if at else crop
    later = math.ceil(max(stop - at - room, 0) / hop)
    for frames in (stop - at - later * hop, *[hop] * later):
      prefix = min(at, crop - frames)
      covered.append(Window(at - prefix, prefix, frames))
      at += frames
  return covered


def chunks(total: int, crop: int, begun: int = 0) -> list[Window]:
  """Cuts the frames from `begun` to `total` into chunks of one shape.

  They do not depend on each other. The last one is moved back to end with the
  stream instead of being padded: what it makes for frames that are there
  already is dropped, and no chunk is conditioned on padding. `prefix` counts
  these frames.
  """
  crop = min(crop, total)
  cut = []
  for end in range(begun + crop, total + crop, crop):
    start = min(end, total) - crop
    done = cut[-1].end if cut else begun
    cut.append(Window(start, done - start, start + crop - done))
  return cut
