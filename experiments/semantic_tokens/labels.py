"""What sounds in each frame of a crop: truth of a piece -> labels [T]."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from musiclm_jax.metrics.probe import NO_LABEL
from musiclm_jax.rendered_music import theory

FRAME = 0.04  # seconds
_QUALITIES = ('maj', 'min')  # of triads; the few others have no label


def of_frames(
  truth: Mapping[str, Any], start: float, frames: int
) -> dict[str, np.ndarray]:
  """Labels of the frames from `start` seconds on, int [T] each.

  Returns:
    `chord` (24: root and triad) and `lead_pitch` (12) at the frame's middle,
    `NO_LABEL` without; `onset` (2): whether a pitched note begins within it.
  """
  edges = start + FRAME * np.arange(frames + 1)
  middle = edges[:-1] + FRAME / 2
  played = [
    part['notes']
    for part, facts in zip(truth['notes'], truth['parts'], strict=True)
    if facts['program'] is not None
  ]
  onsets = np.array([note[0] for part in played for note in part])
  return {
    'chord': _chords(truth, middle),
    'lead_pitch': pitch_classes(truth['melody'], middle),
    'onset': (np.histogram(onsets, edges)[0] > 0).astype(int),
  }


def pitch_classes(melody: list, times: np.ndarray) -> np.ndarray:
  """Pitch class of the melody [M, 3] (onset, pitch, duration) at each time."""
  out = np.full(len(times), NO_LABEL)
  for onset, pitch, duration in melody:
    out[(times >= onset) & (times < onset + duration)] = int(pitch) % 12
  return out


def key(truth: Mapping[str, Any], middle: float) -> str:
  """The key at one time, of 24."""
  started = [s for s in truth['sections'] if s['start'] <= middle]
  return (started or truth['sections'])[-1]['key']


def _chords(truth: Mapping[str, Any], times: np.ndarray) -> np.ndarray:
  numbers = []
  for name in truth['chords']:
    root, quality = name.split(':')
    triad = quality[:3]
    numbers.append(
      2 * theory.NOTE_NAMES.index(root) + _QUALITIES.index(triad)
      if triad in _QUALITIES
      else NO_LABEL
    )
  beat = np.searchsorted(truth['beats'], times, side='right') - 1
  return np.array(numbers)[beat.clip(0, len(numbers) - 1)]
