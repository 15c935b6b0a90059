"""Linear probes of every layer: features -> key, tempo, chord, lead, onset."""

from collections.abc import Sequence

import material
import numpy as np

from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics import probe as linear
from musiclm_jax.metrics.probe import NO_LABEL

CROP_TASKS = ('key', 'family', 'tempo')
FRAME_TASKS = ('chord', 'lead_pitch')
TASKS = (*CROP_TASKS, *FRAME_TASKS, 'onset')
CHANCE = {
  'key': 1 / 24,
  'family': 1 / 8,
  'tempo': 1 / 3,
  'chord': 1 / 24,
  'lead_pitch': 1 / 12,
  'onset': 0.5,
}
_FRAMES = 16  # of each crop


def chosen_frames(crop: int) -> np.ndarray:
  """The frames of a crop that are probed."""
  rng = np.random.default_rng([crop, 3])
  return np.sort(rng.permutation(material.FRAMES)[:_FRAMES])


def keep(crop: int, layers: dict[str, np.ndarray]) -> dict[str, tuple]:
  """What the probes need of a crop: layer -> (mean and spread, frames)."""
  frames = chosen_frames(crop)
  return {
    name: (np.concatenate([x.mean(axis=0), x.std(axis=0)]), x[frames])
    for name, x in layers.items()
  }


def probe(
  layer: str, sides: Sequence[tuple[material.Crops, list[dict[str, tuple]]]]
) -> dict[str, bootstrap.Interval]:
  """Accuracy of one layer's probes, balanced over classes; AUC for onsets.

  Args:
    layer: Its name.
    sides: (crops, what `keep` kept) of the training and the held-out pieces.
  """
  crops, kept = zip(*sides, strict=True)
  edges = linear.tempo_edges(crops[0].tasks['bpm'])
  vectors = [np.stack([row[layer][0] for row in side]) for side in kept]
  frames = [np.concatenate([row[layer][1] for row in side]) for side in kept]
  found = {}
  for task in CROP_TASKS:
    truth = [
      linear.tempo_classes(side.tasks['bpm'], edges)
      if task == 'tempo'
      else side.tasks[task]
      for side in crops
    ]
    hits = linear.probe_hits(vectors[0], truth[0], vectors[1], truth[1])
    found[task] = linear.balanced_accuracy(hits, truth[1], crops[1].pieces)
  pieces = np.repeat(crops[1].pieces, _FRAMES)
  for task in FRAME_TASKS:
    truth = [_frame_labels(side, task) for side in crops]
    known = [side != NO_LABEL for side in truth]
    hits = linear.probe_hits(
      frames[0][known[0]],
      truth[0][known[0]].tolist(),
      frames[1][known[1]],
      truth[1][known[1]].tolist(),
    )
    found[task] = linear.balanced_accuracy(
      hits, truth[1][known[1]], pieces[known[1]]
    )
  truth = [_frame_labels(side, 'onset') for side in crops]
  scores = linear.probe_scores(frames[0], truth[0] == 1, frames[1])
  found['onset'] = linear.area_under_curve(scores, truth[1], pieces)
  return found


def _frame_labels(crops: material.Crops, task: str) -> np.ndarray:
  return np.concatenate(
    [row[chosen_frames(i)] for i, row in enumerate(crops.frames[task])]
  )
