"""Composes, performs and describes pieces, one after the other or at once."""

from typing import Any

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.rendered_music import composer, performer, truth

MEAN_SAMPLES = 92 * SAMPLE_RATE  # of a piece


def render(
  seed: int, split: str, index: int
) -> tuple[np.ndarray, dict[str, Any]]:
  """Makes one piece of a corpus: a pure function.

  Returns:
    float32 [S] in [-1, 1] at 24 kHz, and its record, JSON-able: what
    `truth.describe` says, its notes under `notes`.
  """
  score = composer.compose(seed, split, index)
  played = performer.perform(score)
  record = truth.describe(score, played)
  return played.waveform, record | {'notes': truth.notes_of(score, played)}
