"""Which stage of a cascade loses the quality, from rows of oracle substitution.

Each row is the same clips, made again with one stage more of the cascade:

  reference   the clips themselves
  codec       true codes -> sound
  fine        true coarse levels -> fine stage -> sound
  coarse      true semantic tokens -> coarse -> fine -> sound
  semantic    true MuLan tokens of the audio -> semantic -> coarse -> fine -> …
  text        MuLan tokens of the caption -> the whole cascade

A `Measure` has the loss of every row, and its losses on the same resamples of
clips: the difference of a row and the one above it is what its stage costs, and
the spread of that difference over resamples its interval.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from musiclm_jax.metrics import bootstrap, fad, kad
from musiclm_jax.metrics.bootstrap import Interval
from musiclm_jax.metrics.fad import EmbeddingStatistics

REFERENCE = 'reference'
STAGES = ('codec', 'fine', 'coarse', 'semantic', 'text')
ABLATION = (
  'no_semantic'  # MuLan tokens of the audio -> coarse, without semantic
)
RULE = (
  'a stage stands out if its cost is the largest, and the lower 95 % bounds of '
  'it and of its difference to the cost of each other stage are above 0, the '
  'first also above what rounding costs; '
  'weakest is the stage that stands out in KAD; where none does, in KAD of '
  'each clip to its own reference'
)
_RESAMPLES = 200  # of distances that take long
_RESOLUTION = 1e-6  # of a loss's scale
_TAIL_SIGMAS = 1.645  # 5 % of a normal distribution lie beyond


@dataclasses.dataclass(frozen=True)
class Measure:
  """A loss of each row; larger is worse.

  Attributes:
    values: Row -> loss on all clips, that of the reference included.
    resampled: Row -> losses on resamples of clips, [R], the same for all rows.
    resolution: What a loss moves by when sound is rounded; a cost that is not
      above it is none.
  """

  values: Mapping[str, float]
  resampled: Mapping[str, np.ndarray]
  resolution: float = 0.0

  def interval(self, row: str) -> Interval:
    """The loss of a row with one-sided 95 % bounds."""
    return self._interval({row: 1.0})

  def cost(self, row: str) -> Interval:
    """What the stage of a row costs: its loss above that of the row before.

    The row `no_semantic` begins where `semantic` does, and is compared with it:
    what the cascade loses without that stage.
    """
    return self._interval(self._cost_terms(row))

  def excess(self, row: str, other: str) -> Interval:
    """How much more the stage of a row costs than another one."""
    terms = dict(self._cost_terms(row))
    for name, sign in self._cost_terms(other).items():
      terms[name] = terms.get(name, 0.0) - sign
    return self._interval(terms)

  @property
  def stages(self) -> tuple[str, ...]:
    """The rows that have a stage of their own, in their order."""
    return tuple(row for row in STAGES if row in self.values)

  def _cost_terms(self, row: str) -> dict[str, float]:
    """Rows whose losses are added and taken off."""
    if row == ABLATION:
      return {row: 1.0, 'semantic': -1.0}
    chain = (REFERENCE, *self.stages)
    return {row: 1.0, chain[chain.index(row) - 1]: -1.0}

  def _interval(self, terms: Mapping[str, float]) -> Interval:
    """A sum of losses; bounds from the spread of the sum over resamples.

    The percentiles of resampled distances are all too high, as clips repeat;
    their spread is not.
    """
    value = sum(sign * self.values[row] for row, sign in terms.items())
    drawn = sum(sign * self.resampled[row] for row, sign in terms.items())
    margin = _TAIL_SIGMAS * float(np.std(drawn[np.isfinite(drawn)]))
    return Interval(float(value), float(value - margin), float(value + margin))


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What a measure says of the stages.

  Attributes:
    weakest: The stage that loses most; None where no stage stands out.
    largest: The stage of the largest cost, whether it stands out or not.
    costs: Of each stage.
    excess: By how much the largest cost exceeds that of each other stage.
  """

  weakest: str | None
  largest: str
  costs: Mapping[str, Interval]
  excess: Mapping[str, Interval]


def weakest_stage(measure: Measure) -> Verdict:
  """Names the stage that loses most.

  The rule: it is the stage whose cost is the largest, if with 95 % confidence
  (one-sided, clips resampled, all rows on the same ones) its cost is above 0,
  or what rounding can cost, and above that of each other stage. Otherwise no
  stage stands out.
  """
  costs = {stage: measure.cost(stage) for stage in measure.stages}
  largest = max(costs, key=lambda stage: costs[stage].value)
  excess = {
    stage: measure.excess(largest, stage) for stage in costs if stage != largest
  }
  lows = [costs[largest].low, *(bounds.low for bounds in excess.values())]
  stands_out = min(lows) > 0 and lows[0] > measure.resolution
  return Verdict(largest if stands_out else None, largest, costs, excess)


def frechet(
  groups: Mapping[str, Sequence[EmbeddingStatistics]], *, seed: int = 0
) -> Measure:
  """FAD of each row to the reference.

  Args:
    groups: Row -> statistics of disjoint groups of clips, the same clips in
      each row; none is empty. One row is the reference.
    seed: Of the resampling.

  Raises:
    ValueError: If a row has fewer than 2 embeddings, or other groups.
  """
  counts = [[group.count for group in parts] for parts in groups.values()]
  if any(count != counts[0] for count in counts):
    raise ValueError(f'expected the same groups in each row, got {counts}')

  def distances(drawn: np.ndarray) -> list[float]:
    sets = {
      row: fad.merged([parts[k] for k in drawn])
      for row, parts in groups.items()
    }
    reference = sets[REFERENCE]
    return [
      0.0 if row == REFERENCE else fad.frechet_distance(reference, found)
      for row, found in sets.items()
    ]

  size = len(counts[0])
  rng = np.random.default_rng([seed, size])
  every = distances(np.arange(size))
  drawn = [distances(rng.integers(0, size, size)) for _ in range(_RESAMPLES)]
  whole = fad.merged(groups[REFERENCE])
  resolution = _RESOLUTION * np.trace(whole.scatter) / whole.count
  return _measure(list(groups), every, np.array(drawn), resolution)


def kernel(
  rows: Mapping[str, np.ndarray], clips: np.ndarray, *, seed: int = 0
) -> Measure:
  """KAD of each row to the reference, over pairs of different clips.

  Args:
    rows: Row -> embeddings [N, D], of the same clips in each; one row is the
      reference.
    clips: Which clip each embedding is of, int [N].
    seed: Of the resampling.

  Raises:
    ValueError: As `kad.paired_distances`.
  """
  others = [row for row in rows if row != REFERENCE]
  values, drawn = kad.paired_distances(
    rows[REFERENCE], [rows[row] for row in others], clips, seed=seed
  )
  zeros = np.zeros((len(drawn), 1))
  drawn = np.concatenate([zeros, drawn], axis=1)
  return _measure(
    [REFERENCE, *others], [0.0, *values], drawn, _RESOLUTION * kad.SCALE
  )


def clip_kernel(
  rows: Mapping[str, np.ndarray], clips: np.ndarray, *, seed: int = 0
) -> Measure:
  """KAD of each clip to its own reference, the mean over clips.

  A distance of two sets does not see whether a clip is the right one: music
  that is exchanged among clips, by a wrong caption say, is the same set. This
  one does, with the same kernel. It also counts what a stage is free to choose,
  such as another melody, and counts pairs of one window with itself: it is
  never below 0, and 0 only of equal clips.

  Args:
    rows: As of `kernel`.
    clips: Likewise.
    seed: Likewise.

  Raises:
    ValueError: If most of the reference is one embedding.
  """
  width = kad.median_distance(rows[REFERENCE], seed=seed)
  clips = np.asarray(clips)
  scaled = {row: np.asarray(x, np.float64) / width for row, x in rows.items()}
  losses: dict[str, list[float]] = {row: [] for row in rows}
  for clip in np.unique(clips):
    true = scaled[REFERENCE][clips == clip]
    for row, x in scaled.items():
      losses[row].append(kad.squared_discrepancy(true, x[clips == clip]))
  return clip_means(losses, seed=seed, resolution=_RESOLUTION * kad.SCALE)


def clip_means(
  losses: Mapping[str, Sequence[float]],
  *,
  seed: int = 0,
  resolution: float = _RESOLUTION,
) -> Measure:
  """Mean over clips of a loss that each clip has.

  Args:
    losses: Row -> one of each clip, [C], in one order.
    seed: Of the resampling.
    resolution: See `Measure`.
  """
  columns = np.stack([np.asarray(x, float) for x in losses.values()], axis=1)
  rng = np.random.default_rng([seed, len(columns)])
  drawn = rng.integers(0, len(columns), (bootstrap.RESAMPLES, len(columns)))
  counts = np.apply_along_axis(np.bincount, 1, drawn, minlength=len(columns))
  resampled = counts @ columns / len(columns)
  return _measure(list(losses), columns.mean(axis=0), resampled, resolution)


def _measure(
  rows: Sequence[str],
  values: Sequence[float],
  resampled: np.ndarray,
  resolution: float,
) -> Measure:
  """A measure of values [K] and resampled ones [R, K] of K rows."""
  return Measure(
    {row: float(value) for row, value in zip(rows, values, strict=True)},
    dict(zip(rows, resampled.T, strict=True)),
    resolution,
  )
