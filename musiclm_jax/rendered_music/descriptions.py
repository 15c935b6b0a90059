"""What is said about rendered music: a piece's record -> captions of crops."""

import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from musiclm_jax.rendered_music import captions, truth

_CACHED_CROPS = 16  # several captions of one crop in a row are common
_CROP_FIELDS = (
  *('seconds', 'style', 'bpm', 'metre', 'mode', 'lead_family'),
  *('lead_program', 'sections', 'effects'),
)


class Descriptions:
  """Says what is audible in the crops of one split; safe to use from threads.

  Attributes:
    truth: Piece -> its whole record, its notes under `notes`.
  """

  def __init__(self, split: str, truth_of: Callable[[int], dict[str, Any]]):
    """Takes the split, which has wordings of its own, and `truth`."""
    self._split, self.truth = split, truth_of
    self._facts: dict[int, dict[str, Any]] = {}
    self._audible = functools.lru_cache(_CACHED_CROPS)(
      lambda i, start, end: truth.audible(self._compact(i), start, end)
    )

  def describe(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> tuple[str, Mapping[str, Hashable]]:
    """Writes a caption on what is audible in the crop, and what it states."""
    audible = self._audible(i, start_seconds, end_seconds)
    caption = captions.write(audible, self._split, rng)
    return caption.text, caption.stated

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable]:
    """States what is audible in the crop; see `truth.audible`."""
    return self._audible(i, start_seconds, end_seconds)

  def written(self, i: int) -> tuple[str, ...]:
    """Lists none: captions are made of what the piece's own record says."""
    del i
    return ()

  def _compact(self, i: int) -> dict[str, Any]:
    """What crops need to know of a piece, kept in memory (about 10 kB)."""
    if i not in self._facts:
      record = self.truth(i)
      facts = {field: record[field] for field in _CROP_FIELDS}
      for grid in ('onsets', 'loudness_grid', 'brightness_grid'):
        facts[grid] = np.array(record[grid], np.float32)
      facts['parts'] = [
        {
          **{k: part[k] for k in ('role', 'name', 'family')},
          'levels': np.array(part['levels'], np.int8),
        }
        for part in record['parts']
      ]
      self._facts[i] = facts
    return self._facts[i]
