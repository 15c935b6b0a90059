"""What is found without an embedding: by the notes, and by search.

Both try every tempo and every transposition of a query against each key, so
they cost a comparison a key; an embedding costs one product.
"""

import numpy as np

from musiclm_jax.melody.model import salience
from musiclm_jax.rendered_music import melody_takes

TEMPOS = np.linspace(0.9, 1.1, 9)


def by_notes(
  queries: list[melody_takes.Take],
  keys: list[melody_takes.Take],
  seconds: float,
) -> np.ndarray:
  """Likeness [Q, K] of what is played, which no one is told: the ceiling.

  Pitch curves lie on each other at their median distance; the rest of it,
  at most two semitones at any time, is averaged.
  """
  time = np.arange(0.0, seconds, 0.04)
  tried = np.stack([[_curve(k.notes, time, t) for t in TEMPOS] for k in keys])
  likeness = []
  for query in queries:
    apart = _curve(query.notes, time, 1.0) - tried
    apart = np.abs(apart - np.median(apart, axis=2, keepdims=True))
    likeness.append(-np.minimum(apart, 2.0).mean(axis=2).min(axis=1))
  return np.array(likeness)


def _curve(notes: np.ndarray, time: np.ndarray, slower: float) -> np.ndarray:
  """Pitch at each time, held through rests."""
  rows = notes[np.argsort(notes[:, 0])]
  playing = np.searchsorted(slower * rows[:, 0], time, side='right') - 1
  return rows[playing.clip(0), 2]


def by_search(
  queries: np.ndarray, keys: np.ndarray, spectrum: dict
) -> np.ndarray:
  """Likeness [Q, K] of what stands out in waveforms [N, S].

  Args:
    queries: Waveforms.
    keys: Waveforms.
    spectrum: Arguments of `salience`.
  """
  heard, wanted = (np.asarray(salience(w, **spectrum)) for w in (queries, keys))
  size = 2 * heard.shape[2]
  wanted = np.fft.rfft(wanted, size).conj()
  best = np.full((len(queries), len(keys)), -np.inf)
  for tempo in TEMPOS:
    stretched = np.fft.rfft(_stretch(heard, tempo), size)
    found = np.fft.irfft(
      np.einsum('qtf,ktf->qkf', stretched, wanted, optimize=True), size
    )
    best = np.maximum(best, found.max(axis=2))
  return best


def _stretch(frames: np.ndarray, slower: float) -> np.ndarray:
  """Frames [N, T, F] at another tempo; silence where they end too early."""
  count = frames.shape[1]
  place = np.arange(count) / slower
  before = np.minimum(place.astype(int), count - 1)
  after = np.minimum(before + 1, count - 1)
  share = (place - before)[:, None]
  mixed = frames[:, before] * (1.0 - share) + frames[:, after] * share
  return np.where(place[:, None] < count, mixed, 0.0)
