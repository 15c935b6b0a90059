"""Crop places: an epoch that hears every stretch of a corpus once.

lengths of pieces [N] -> numbered places -> (piece, first sample).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class CropPlaces:
  """Numbers the stretches of a corpus, as long pieces have more of them.

  Attributes:
    pieces: Piece of each place [count].
    windows: Number of the place within its piece [count].
    totals: Places of each piece [N].
    slacks: Last legal start of each piece, in samples [N].
  """

  pieces: np.ndarray
  windows: np.ndarray
  totals: np.ndarray
  slacks: np.ndarray

  @property
  def count(self) -> int:
    """Places in the corpus."""
    return len(self.pieces)

  def draw(self, place: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draws a start within a place's share of its piece.

    Returns:
      Piece and first sample.
    """
    i = int(self.pieces[place])
    share = (self.windows[place] + rng.random()) / self.totals[i]
    return i, int(share * (self.slacks[i] + 1))


def crop_places(lengths: Sequence[int], crop: int) -> CropPlaces:
  """Divides pieces into places.

  Args:
    lengths: Of the pieces, in samples.
    crop: Of a crop, in samples; a shorter piece has one place, at 0.
  """
  lengths = np.asarray(lengths, np.int64)
  totals = np.maximum(lengths // crop, 1)
  pieces = np.repeat(np.arange(len(lengths)), totals)
  firsts = np.repeat(np.cumsum(totals) - totals, totals)
  windows = np.arange(len(pieces)) - firsts
  return CropPlaces(pieces, windows, totals, np.maximum(lengths - crop, 0))


def crop_starts(
  seconds: float, crop_seconds: float, hop_seconds: float, grid_seconds: float
) -> list[float]:
  """Places the crops of a piece.

  Crops begin every `hop_seconds`; where more than half a crop would be left
  over, one more ends with the piece. A piece of less than half a crop has
  none, one of less than a crop has one (padded by whoever reads it): mostly
  silent crops teach silence.

  Args:
    seconds: Length of the piece.
    crop_seconds: Length of a crop.
    hop_seconds: From start to start.
    grid_seconds: Starts are multiples of this, a common frame of all streams.

  Returns:
    Starts in seconds, rising.
  """
  if seconds < crop_seconds / 2:
    return []
  count = max(int((seconds - crop_seconds) / hop_seconds + 1e-9), 0) + 1
  last = (seconds - crop_seconds) / grid_seconds
  frames = [round(k * hop_seconds / grid_seconds) for k in range(count)]
  if (last - frames[-1]) * grid_seconds > crop_seconds / 2:
    frames.append(int(last + 1e-9))
  return [round(frame * grid_seconds, 6) for frame in frames]
