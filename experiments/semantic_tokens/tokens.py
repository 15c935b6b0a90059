"""Purity of tokens against notes, and what of them another cast keeps."""

from collections.abc import Mapping, Sequence

import material
import numpy as np
import takes
import token_agreement
import token_purity
from token_agreement import Agreement

from musiclm_jax.metrics import probe

LABELS = ('chord', 'lead_pitch', 'onset', 'family')
COARSE = 4
_FIT_FRAMES = 32  # of each training crop


def fit_frames(crop: int, layers: Mapping[str, np.ndarray]) -> dict:
  """Frames of a crop on which each layer's own k-means is fitted."""
  rng = np.random.default_rng([crop, 4])
  frames = rng.permutation(material.FRAMES)[:_FIT_FRAMES]
  return {name: x[frames] for name, x in layers.items()}


def layer_tokens(
  layer: str,
  fit: Sequence[Mapping[str, np.ndarray]],
  streams: Sequence[Mapping[str, np.ndarray]],
  codebook_size: int,
) -> np.ndarray:
  """Tokens [N, T] of a k-means of the layer's own, all of one size."""
  _, tokens = probe.kmeans_tokens(
    [row[layer] for row in fit],
    [row[layer] for row in streams],
    codebook_size,
    0,
  )
  return np.stack(tokens)


def purity(tokens: np.ndarray, crops: material.Crops) -> dict[str, dict]:
  """What tokens [N, T] know of each label, and by chance."""
  families = sorted(set(crops.tasks['family']))
  rows = np.array([families.index(name) for name in crops.tasks['family']])
  streams = crops.frames | {
    'family': np.tile(rows[:, None], (1, tokens.shape[1]))
  }
  return {
    label: {
      name: {
        'value': measure(tokens, streams[label]),
        'chance': token_purity.chance(measure, tokens, streams[label]),
      }
      for name, measure in (
        ('purity', token_purity.purity),
        ('known_share', token_purity.known_share),
      )
    }
    for label in LABELS
  }


def agreement(
  first: np.ndarray, second: np.ndarray, played: takes.Takes
) -> list[Agreement]:
  """Agreement of both takes' tokens [U, T, Q] at each level."""
  repeats = first.shape[1] // played.heard.shape[1]
  heard = np.repeat(played.heard, repeats, axis=1)
  return token_agreement.measure(first, second, heard, played.groups)


def described(found: Agreement) -> dict:
  """The figures of one agreement, for results.json."""
  return {
    'kept': float(found.kept.mean()),
    'chance': float(found.chance.mean()),
    'difference': found.difference(),
    'corrected': token_agreement.interval(found),
  }
