"""What each way to play changes: scores of clips -> figures with bounds.

The unit is the prompt. A figure above 0 whose bounds exclude 0 is an effect;
`others` is the same of what other prompts ask for, which should be none.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.mode_effects import ears
from experiments.mode_effects.ears import own
from experiments.tiny_cascade import music
from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics.bootstrap import Interval

Figures = dict[str, Interval]
_SECONDS = (0.2, 1.0)  # of a chroma's frame


def story(before: np.ndarray, after: np.ndarray) -> Figures:
  """Whether the text that comes second is heard more from its place on.

  Args:
    before: What the second texts find in the first parts [P, P].
    after: In the second parts.
  """
  change = after - before
  others = own(change) - ears.above_others(change)
  return {
    'rises': bootstrap.mean(own(change)),
    'others': bootstrap.mean(others),
    'rises more': bootstrap.difference(own(change), others),
  }


def mixture(
  first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> Figures:
  """Whether mixtures lie between their ends, nearer to the greater share.

  The unit is the pair of texts; both mixtures of it count, each from its own
  ends.

  Args:
    first: `first` (alone), `mix` (0.7 of it), `xim` (0.3 of it), `second`
      -> what the first text finds in the clips [P, P].
    second: What the second text finds.
  """
  place = {name: own(first[name]) - own(second[name]) for name in first}
  near = place['first'] - place['mix'] + place['xim'] - place['second']
  far = place['first'] - place['xim'] + place['mix'] - place['second']
  # Prompts p and p + P/2 are one pair of texts, each first once.
  pairs = np.arange(len(near)) % (len(near) // 2)

  def mean(values: np.ndarray) -> Interval:
    return bootstrap.mean(bootstrap.unit_means(values, pairs)[0])

  return {
    'nearer end above it': mean(near / 2),
    'it above farther end': mean(far / 2),
    '0.7 above 0.3': mean(place['mix'] - place['xim']),
    'first above 0.7': mean(place['first'] - place['mix']),
  }


def guidance(by_scale: Mapping[float, np.ndarray]) -> Figures:
  """Whether the score rises with the scale: rank correlation, by prompt.

  Args:
    by_scale: Scale -> scores [P, P].
  """
  from scipy import stats

  scales = sorted(by_scale)
  rows = np.stack([own(by_scale[scale]) for scale in scales], axis=1)
  ranks = stats.rankdata(rows, axis=1)
  ranks -= ranks.mean(axis=1, keepdims=True)
  ideal = np.arange(len(scales)) - (len(scales) - 1) / 2
  norms = np.linalg.norm(ranks, axis=1) * np.linalg.norm(ideal)
  # 0 of a score that never changes.
  correlations = ranks @ ideal / np.maximum(norms, 1e-9)
  return {
    'rank correlation': bootstrap.mean(correlations),
    **{
      f'score at {scale:g}': bootstrap.mean(own(by_scale[scale]))
      for scale in scales
    },
  }


def negative(without: np.ndarray, with_it: np.ndarray) -> Figures:
  """Whether what a negative prompt names is heard less.

  Args:
    without: What the negative texts find in clips made without them [P, P].
    with_it: In clips of the same seeds made with them.
  """
  return {'falls': bootstrap.difference(own(without), own(with_it))}


def continuation(scores: np.ndarray) -> Figures:
  """Whether what follows a recording is like it more than like others.

  Args:
    scores: What the recordings find in what was made of them [P, P].
  """
  return {'above others': bootstrap.mean(ears.above_others(scores))}


def melody(
  hums: Sequence[np.ndarray], groups: Mapping[str, Sequence[np.ndarray]]
) -> Figures:
  """Whether music follows its melody.

  Args:
    hums: Melody of each clip [P, S].
    groups: `with` and `without` melody -> clips [P, S].
  """
  found = {}
  for seconds in _SECONDS:
    own_to = {
      name: _likeness(hums, clips, seconds) for name, clips in groups.items()
    }
    frames = f'frames of {seconds:g} s'
    with_it = own_to['with']
    found |= {
      f'{frames}: above no melody': bootstrap.difference(
        own(with_it), own(own_to['without'])
      ),
      f'{frames}: above other melodies': bootstrap.mean(
        ears.above_others(with_it)
      ),
      f'{frames}: correlation': bootstrap.mean(own(with_it)),
    }
  return found


def _likeness(
  hums: Sequence[np.ndarray], clips: Sequence[np.ndarray], seconds: float
) -> np.ndarray:
  """Likeness of every melody with every clip, [P, P]."""
  sides = [[music.chroma(x, seconds) for x in side] for side in (hums, clips)]
  return np.array([[ears.likeness(a, b) for b in sides[1]] for a in sides[0]])
