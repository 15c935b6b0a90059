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
