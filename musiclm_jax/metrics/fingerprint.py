"""Audio fingerprints: is a stretch of sound in other sound (Haitsma 2002).

waveform [S] -> one word of 32 bits each 11.6 ms -> the training clip and place
at which the fewest bits differ. A bit says whether the difference of two
neighbouring bands grew from frame to frame: it survives codecs, equalizers and
levels, but not another performance of the same notes.
"""

import dataclasses
import functools
from collections import Counter

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from musiclm_jax.metrics import bootstrap

SAMPLE_RATE = 16_000
SPAN_SECONDS = 3.0
CHANCE = 0.5  # of a bit
_WINDOW, _HOP = 6000, 186  # 375 ms every 11.6 ms
_BANDS, _LOW_HZ, _HIGH_HZ = 33, 300.0, 2000.0
_FRAMES_AT_ONCE = 512
_CANDIDATES = 8  # places whose bits are compared in full
SPAN_WORDS = round(SPAN_SECONDS * SAMPLE_RATE / _HOP)
_EDGE_HZ = np.geomspace(_LOW_HZ, _HIGH_HZ, _BANDS + 1)


@dataclasses.dataclass(frozen=True)
class FingerprintMatch:
  """The likeliest place of a stretch.

  Attributes:
    clip: Name of the training clip; None if no word of it occurs anywhere.
    bit_error_rate: Share of bits that differ, 0.5 between unrelated clips.
  """

  clip: str | None
  bit_error_rate: float


def words(waveform: np.ndarray) -> np.ndarray:
  """Fingerprints a waveform.

  Args:
    waveform: [S] at 16 kHz.

  Returns:
    uint32 [T], T = (S - 6000) // 186, none of a shorter waveform.
  """
  waveform = np.asarray(waveform, np.float32)
  if len(waveform) < _WINDOW + _HOP:
    return np.zeros(0, np.uint32)
  frames = sliding_window_view(waveform, _WINDOW)[::_HOP]
  energies = np.concatenate(
    [
      np.square(np.abs(np.fft.rfft(part * _window()))) @ _filters()
      for part in (
        frames[start : start + _FRAMES_AT_ONCE]
        for start in range(0, len(frames), _FRAMES_AT_ONCE)
      )
    ]
  )
  slopes = energies[:, :-1] - energies[:, 1:]
  bits = (slopes[1:] - slopes[:-1]) > 0
  return (bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(
    axis=1, dtype=np.uint32
  )


class FingerprintIndex:
  """Words of training clips, found by any of them that is equal.

  Memory grows with the clips, by about 1 kB a second of sound.
  """

  def __init__(self):
    """Makes an index of nothing."""
    self._clips: list[tuple[str, np.ndarray]] = []
    self._sorted: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

  def add(self, clip: str, fingerprint: np.ndarray) -> None:
    """Adds a clip by its name and `words`."""
    self._clips.append((clip, np.asarray(fingerprint, np.uint32)))
    self._sorted = None

  def match(self, fingerprint: np.ndarray) -> FingerprintMatch:
    """Finds the place of a stretch [T] at which the fewest bits differ.

    Places at which one word is equal are tried, those first that have most
    words in common.
    """
    best = FingerprintMatch(None, CHANCE)
    votes: Counter = Counter()
    keys, owners, places = self._order()
    first = np.searchsorted(keys, fingerprint, 'left')
    last = np.searchsorted(keys, fingerprint, 'right')
    for at, (low, high) in enumerate(zip(first, last, strict=True)):
      starts = places[low:high] - at
      votes.update(zip(owners[low:high].tolist(), starts.tolist(), strict=True))
    for (owner, start), _ in votes.most_common(_CANDIDATES):
      name, theirs = self._clips[owner]
      if start < 0 or start + len(fingerprint) > len(theirs):
        continue
      differing = theirs[start : start + len(fingerprint)] ^ fingerprint
      rate = float(np.bitwise_count(differing).mean() / 32)
      if rate < best.bit_error_rate:
        best = FingerprintMatch(name, rate)
    return best

  def nearest(self, fingerprint: np.ndarray) -> FingerprintMatch:
    """The closest match of any half-overlapping 3 s of a clip."""
    last = max(len(fingerprint) - SPAN_WORDS, 0)
    starts = range(0, last + 1, SPAN_WORDS // 2)
    found = [self.match(fingerprint[s : s + SPAN_WORDS]) for s in starts]
    return min(found, key=lambda match: match.bit_error_rate)

  def _order(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All words in order, the clip of each and its place there."""
    if self._sorted is None:
      sizes = [len(part) for _, part in self._clips]
      parts = [part for _, part in self._clips]
      joined = np.concatenate([np.zeros(0, np.uint32), *parts])
      owners = np.repeat(np.arange(len(sizes)), sizes)
      places = np.concatenate([np.zeros(0, int), *map(np.arange, sizes)])
      order = np.argsort(joined, kind='stable')
      self._sorted = joined[order], owners[order], places[order]
    return self._sorted


def duplicate_rate(
  rates: np.ndarray, threshold: float, *, seed: int = 0
) -> bootstrap.Interval:
  """Share of clips whose bit error rate [N] is below a threshold."""
  return bootstrap.mean(np.asarray(rates) < threshold, seed=seed)


@functools.cache
def _window() -> np.ndarray:
  return np.hanning(_WINDOW).astype(np.float32)


@functools.cache
def _filters() -> np.ndarray:
  """Bands [F, 33], evenly spaced in pitch."""
  hz = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)[:, None]
  inside = (hz >= _EDGE_HZ[:-1]) & (hz < _EDGE_HZ[1:])
  return inside.astype(np.float32)
