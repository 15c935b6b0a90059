"""Bootstrap over units, and over units of balanced classes.

The unit of every figure is the prompt or the piece, never the clip: clips of
one piece are not independent. Bounds are one-sided 95 % bounds.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

import numpy as np

RESAMPLES = 2000
_TAIL = 5.0  # per cent below `low`, and as many above `high`
_TAIL_SIGMAS = 1.645  # the same tail of a normal distribution


@dataclasses.dataclass(frozen=True)
class Interval:
  """A figure with its one-sided 95 % bounds.

  Attributes:
    value: The figure on all units.
    low: 95 % of the resamples lie above.
    high: 95 % of the resamples lie below.
  """

  value: float
  low: float
  high: float

  def shifted(self, offset: float) -> 'Interval':
    """The interval of `figure + offset`."""
    return Interval(self.value + offset, self.low + offset, self.high + offset)


def bounds(value: float, resampled: np.ndarray) -> Interval:
  """Bounds of a figure from the percentiles of what resamples gave, [R]."""
  low, high = np.percentile(resampled, [_TAIL, 100 - _TAIL])
  return Interval(float(value), float(low), float(high))


def unit_means(
  values: Sequence[float], units: Sequence[Hashable]
) -> tuple[np.ndarray, list[Hashable]]:
  """Averages the values of each unit, so that a unit counts once.

  Returns:
    The means [U] and the units in the order of their first appearance.
  """
  values = np.asarray(values, np.float64)
  order = list(dict.fromkeys(units))
  rows = {unit: row for row, unit in enumerate(order)}
  index = np.array([rows[unit] for unit in units], np.int64)
  sums = np.bincount(index, weights=values, minlength=len(order))
  return sums / np.bincount(index, minlength=len(order)), order


def balanced_mean(
  values: Sequence[float], classes: Sequence[Hashable] | None = None
) -> float:
  """Mean over units; with classes, the mean of the classes' means."""
  values = np.asarray(values, np.float64)
  if classes is None:
    return float(values.mean())
  means, _ = unit_means(values, classes)
  return float(means.mean())


def mean(
  values: Sequence[float],
  *,
  classes: Sequence[Hashable] | None = None,
  seed: int = 0,
  resamples: int = RESAMPLES,
) -> Interval:
  """Bounds of the mean of one value per unit.

  Args:
    values: One value per unit [U].
    classes: If given, every class weighs the same and units are resampled
      within their class, so that no class is ever empty.
    seed: Of the resampling.
    resamples: Number of resamples.

  Raises:
    ValueError: If there are no units.
  """
  values = np.asarray(values, np.float64)
  if not values.size:
    raise ValueError('nothing to resample: expected at least one unit')
  labels = list(classes) if classes is not None else [None] * len(values)
  rng = np.random.default_rng([seed, len(values)])
  means = []
  for label in dict.fromkeys(labels):
    part = values[[other == label for other in labels]]
    means.append(_drawn_means(rng, part, resamples))
  return bounds(balanced_mean(values, classes), np.mean(means, axis=0))


def difference(
  ours: Sequence[float],
  theirs: Sequence[float],
  *,
  classes: Sequence[Hashable] | None = None,
  seed: int = 0,
) -> Interval:
  """Bounds of the mean of `ours - theirs`, paired unit by unit."""
  ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
  if ours.shape != theirs.shape:
    raise ValueError(
      f'expected two values of every unit, got {ours.shape} and {theirs.shape}'
    )
  return mean(ours - theirs, classes=classes, seed=seed)


def ratio(
  ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0
) -> Interval:
  """Bounds of `mean(ours) / mean(theirs)`, paired unit by unit."""
  ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
  rng = np.random.default_rng([seed, len(ours)])
  drawn = rng.integers(0, len(ours), (RESAMPLES, len(ours)))
  ratios = ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1)
  return bounds(ours.mean() / theirs.mean(), ratios)


def two_samples(
  ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0
) -> Interval:
  """Bounds of `mean(ours) - mean(theirs)` of unrelated units."""
  rng = np.random.default_rng([seed, len(ours), len(theirs)])
  ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
  means = [_drawn_means(rng, values, RESAMPLES) for values in (ours, theirs)]
  return bounds(ours.mean() - theirs.mean(), means[0] - means[1])


def statistic(
  figure: Callable[[np.ndarray], float],
  num_units: int,
  *,
  seed: int = 0,
  resamples: int = RESAMPLES,
) -> Interval:
  """Bounds of any figure of many units, e.g. a ratio of two means.

  Args:
    figure: Maps unit indices [U], with repeats, to a value; its NaN is
      a resample that has none and is left out.
    num_units: Number of units.
    seed: Of the resampling.
    resamples: Number of resamples.
  """
  figures = _resampled(figure, num_units, seed, resamples)
  edges = [_TAIL, 100 - _TAIL]
  low, high = np.nanpercentile(figures, edges, method='nearest')
  value = float(figure(np.arange(num_units)))
  return Interval(value, float(low), float(high))


def spread(
  figure: Callable[[np.ndarray], float],
  num_units: int,
  *,
  seed: int = 0,
  resamples: int = 200,
) -> Interval:
  """Bounds from the spread of a statistic that resampling itself biases.

  A perplexity falls when units repeat, so the percentiles of its resamples
  are all too low; their standard deviation is not.

  Args:
    figure: Maps unit indices [U] to a value.
    num_units: Number of units.
    seed: Of the resampling.
    resamples: Number of resamples.
  """
  value = float(figure(np.arange(num_units)))
  figures = _resampled(figure, num_units, seed, resamples)
  margin = _TAIL_SIGMAS * float(np.std(figures))
  return Interval(value, value - margin, value + margin)


def _drawn_means(
  rng: np.random.Generator, values: np.ndarray, resamples: int
) -> np.ndarray:
  """Means of units drawn with replacement, [resamples]."""
  drawn = rng.integers(0, len(values), (resamples, len(values)))
  return values[drawn].mean(axis=1)


def _resampled(
  figure: Callable[[np.ndarray], float],
  num_units: int,
  seed: int,
  resamples: int,
) -> list[float]:
  """A figure of units drawn with replacement, many times."""
  rng = np.random.default_rng([seed, num_units])
  return [
    figure(rng.integers(0, num_units, num_units)) for _ in range(resamples)
  ]
