"""Two evaluations of one reference, figure by figure.

(Results, Results) -> what the second has more than the first, with bounds
where clips of one name say so
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from musiclm_jax.evaluation.clips import stem
from musiclm_jax.evaluation.results import Results
from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics.bootstrap import Interval

# Figures of what a bundle itself does, whose weights may differ.
_OF_THE_BUNDLE = ('codec_', 'attribution_codec_')


@dataclasses.dataclass(frozen=True)
class Difference:
  """The second's figure minus the first's.

  Attributes:
    value: None where the figures cannot be compared.
    interval: Bounds over what is paired; None where nothing is.
    num_units: Prompts, or clips without one, that are paired.
    remark: Why there is no value, or what stands in for a paired one.
    values: Of both, where they are no figures of the results.
  """

  value: float | None
  interval: Interval | None = None
  num_units: int = 0
  remark: str = ''
  values: tuple[float, float] | None = None

  def to_json(self) -> dict[str, Any]:
    """What report.json holds of it."""
    bounds = self.interval
    return {
      'difference': self.value,
      'interval': [bounds.low, bounds.high] if bounds else None,
      'n': self.num_units,
      'remark': self.remark,
    }


def compare(
  first: Results,
  second: Results,
  prompts: Mapping[str, str] | None = None,
  seed: int = 0,
) -> dict[str, Difference]:
  """Compares all figures of two evaluations.

  A figure that is the mean of its clips is paired clip by clip, and bounds come
  from a bootstrap over prompts. A distance of sets is no such mean: there the
  two bounds must do, and `song_fad_<embedder>` compares the mean distance of a
  song, which is paired.

  Args:
    first: What is compared with.
    second: Of the same reference.
    prompts: Name of a clip without suffix -> its prompt, the unit of
      resampling.
    seed: Of the bootstrap.

  Returns:
    Key -> difference, in the order of the first.
  """
  found = {}
  for key in dict.fromkeys((*first.figures, *second.figures)):
    both = [side.figures.get(key) for side in (first, second)]
    facts = [side.details.get(key, {}) for side in (first, second)]
    if None in both:
      has = 'only one has it' if both != [None, None] else 'neither has it'
      found[key] = Difference(None, remark=has)
      continue
    if not _comparable(key, *facts):
      found[key] = Difference(
        None, remark='not comparable: measured by different networks'
      )
      continue
    value = both[1] - both[0]
    songs = [_songs(one) for one in facts]
    paired = _paired(songs, prompts or {}, seed)
    if paired is None:
      bounded = any(one.get('interval') for one in facts)
      remark = 'not paired' + (': compare the bounds' if bounded else '')
      found[key] = Difference(value, remark=remark)
    elif _is_mean(both, songs):
      found[key] = dataclasses.replace(paired, values=None)
    else:
      found[key] = Difference(value, remark='of sets: compare the bounds')
      if key.startswith('fad_'):
        found[f'song_{key}'] = paired
  return found


def _comparable(key: str, *facts: Mapping[str, Any]) -> bool:
  """Whether one network, read in one way, has made both figures."""
  if key.startswith(_OF_THE_BUNDLE):
    return facts[0].get('windowing') == facts[1].get('windowing')
  return all(
    facts[0].get(name) == facts[1].get(name) for name in ('sha256', 'windowing')
  )


def _songs(facts: Mapping[str, Any]) -> dict[str, float]:
  """Values of clips by name without suffix, without those that have none."""
  found = facts.get('per_song') or {}
  return {stem(n): float(v) for n, v in found.items() if v is not None}


def _paired(
  songs: list[dict[str, float]], prompts: Mapping[str, str], seed: int
) -> Difference | None:
  common = sorted(songs[0].keys() & songs[1].keys())
  if len(common) < 2:
    return None
  units = [prompts.get(name, name) for name in common]
  means = [
    bootstrap.unit_means([side[name] for name in common], units)[0]
    for side in songs
  ]
  bounds = bootstrap.difference(means[1], means[0], seed=seed)
  values = (float(means[0].mean()), float(means[1].mean()))
  return Difference(bounds.value, bounds, len(means[0]), values=values)


def _is_mean(both: list[float], songs: list[dict[str, float]]) -> bool:
  """Whether a figure is the mean of its clips, so that pairs say all."""
  means = [np.mean(list(side.values())) for side in songs]
  return bool(np.allclose(means, both, rtol=1e-3, atol=1e-6))
