"""What raters prefer: wins, Bradley-Terry strengths, Wilcoxon signed ranks.

ratings (first system, second system, preference in [-2, 2], unit) -> figures

A preference is below 0 for the first and above 0 for the second clip, 1 weak
and 2 strong, 0 for none: the five points of MusicLM §5.
"""

import dataclasses
import itertools
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

from musiclm_jax.metrics import bootstrap

ALPHA = 0.01  # of the paper, before Bonferroni's correction
# Of strengths and of the logarithm of ties: keeps both finite where a system
# has won or lost everything, and is far below what ten ratings tell.
_RIDGE = 0.01
_STEPS, _LONGEST_STEP, _CLOSE = 60, 2.0, 1e-9


@dataclasses.dataclass(frozen=True)
class Ratings:
  """Comparisons of two clips of one prompt.

  Attributes:
    systems: Names, [K].
    first: Index of the system on one side, int [N].
    second: Of the other one, int [N].
    preference: In -2 … 2, above 0 for `second`, int [N].
    prompts: What was compared, [N].
    raters: By whom, [N].
  """

  systems: tuple[str, ...]
  first: np.ndarray
  second: np.ndarray
  preference: np.ndarray
  prompts: Sequence[Hashable]
  raters: Sequence[Hashable]

  def __len__(self) -> int:
    """Counts the ratings."""
    return len(self.preference)

  @property
  def pairs(self) -> tuple[tuple[int, int], ...]:
    """All pairs of systems, the lower index before."""
    return tuple(itertools.combinations(range(len(self.systems)), 2))

  def towards_first(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    """Preferences of a pair, above 0 for `a` whatever side it was on.

    Returns:
      Values and the indices of their ratings.
    """
    as_named = (self.first == a) & (self.second == b)
    rows = np.flatnonzero(as_named | (self.first == b) & (self.second == a))
    signs = np.where(as_named[rows], -1, 1)
    return signs * self.preference[rows], rows


def wins(ratings: Ratings) -> np.ndarray:
  """How often each system was preferred to each other, int [K, K].

  Row a, column b: `a` preferred to `b`, weakly or strongly. The paper's *wins*
  of a system are the sum of its row.
  """
  found = np.zeros((len(ratings.systems),) * 2, np.int64)
  for a, b in ratings.pairs:
    values, _ = ratings.towards_first(a, b)
    found[a, b], found[b, a] = (values > 0).sum(), (values < 0).sum()
  return found


def comparisons(ratings: Ratings) -> np.ndarray:
  """How often each pair was compared, ties included, int [K, K]."""
  found = np.zeros((len(ratings.systems),) * 2, np.int64)
  np.add.at(found, (ratings.first, ratings.second), 1)
  return found + found.T


@dataclasses.dataclass(frozen=True)
class SignedRanks:
  """Whether one of two systems is preferred.

  Attributes:
    pair: Indices of the systems.
    count: Ratings of the pair.
    p_value: Two-sided, of all ratings, as in the paper: without correction.
    prompts_p_value: Likewise of one mean a prompt. Ratings of one prompt are
      not independent, so where many raters judge few prompts `p_value` is too
      small and this one is not.
    threshold: What p must be below.
  """

  pair: tuple[int, int]
  count: int
  p_value: float
  prompts_p_value: float
  threshold: float

  @property
  def significant(self) -> bool:
    """By the paper's rule, and with prompts as the units as well."""
    return max(self.p_value, self.prompts_p_value) < self.threshold


def signed_ranks(
  ratings: Ratings, *, alpha: float = ALPHA, tests: int | None = None
) -> list[SignedRanks]:
  """Wilcoxon's signed-rank test of each pair, corrected as Bonferroni says.

  Ratings without a preference are left out, as Wilcoxon did.

  Args:
    ratings: Of at least one pair.
    alpha: Level of all tests together.
    tests: By how many it is divided; None: by the pairs. The paper has 15.
  """
  threshold = alpha / (tests or len(ratings.pairs))
  found = []
  for a, b in ratings.pairs:
    values, rows = ratings.towards_first(a, b)
    if not len(values):
      continue
    means, _ = bootstrap.unit_means(values, [ratings.prompts[r] for r in rows])
    found.append(
      SignedRanks(
        (a, b), len(values), p_value(values), p_value(means), threshold
      )
    )
  return found


def p_value(differences: np.ndarray) -> float:
  """Two-sided p of a signed-rank test; 1 where no difference is left."""
  left = np.asarray(differences, np.float64)
  left = left[left != 0]
  if not len(left):
    return 1.0
  # Five points tie all the time: the exact distribution is one without ties.
  tied = len(np.unique(np.abs(left))) < len(left)
  method = 'approx' if tied or len(left) > 50 else 'exact'
  found = stats.wilcoxon(left, method=method, correction=tied)
  return float(found.pvalue)


def outcomes(
  ratings: Ratings, units: Sequence[Hashable]
) -> tuple[np.ndarray, list[Hashable]]:
  """Counts wins, losses and ties of each unit and pair.

  Args:
    ratings: N of them.
    units: What is resampled, such as the prompts, [N].

  Returns:
    Counts, float64 [U, P, 3], and the units.
  """
  order = list(dict.fromkeys(units))
  rows = {unit: row for row, unit in enumerate(order)}
  counts = np.zeros((len(order), len(ratings.pairs), 3))
  for place, (a, b) in enumerate(ratings.pairs):
    values, of = ratings.towards_first(a, b)
    column = np.where(values > 0, 0, np.where(values < 0, 1, 2))
    unit_rows = np.array([rows[units[r]] for r in of], np.int64)
    np.add.at(counts, (unit_rows, place, column), 1)
  return counts, order


def strengths(counts: np.ndarray, num_systems: int) -> np.ndarray:
  """Fits Bradley and Terry's model with ties by Davidson (1970).

  The odds of a win, a loss and a tie are e^a : e^b : ν e^((a + b) / 2). Where
  there are no ties this is the model of Bradley and Terry (1952). The logarithm
  of the likelihood is concave: Newton's steps, for all sets at once.

  Args:
    counts: Wins, losses and ties of the pairs in `Ratings.pairs`' order,
      [..., P, 3].
    num_systems: K.

  Returns:
    Strengths [..., K] with mean 0: of two, σ(a - b) is the share that `a` wins
    where one is preferred.
  """
  pairs = list(itertools.combinations(range(num_systems), 2))
  # What each outcome adds to the log-odds: [P, 3, K + 1], ν last.
  effects = np.zeros((len(pairs), 3, num_systems + 1))
  for place, (a, b) in enumerate(pairs):
    effects[place, 0, a] = effects[place, 1, b] = 1.0
    effects[place, 2, [a, b]] = 0.5
    effects[place, 2, -1] = 1.0
  squares = effects[..., :, None] * effects[..., None, :]
  ridge = _RIDGE * np.eye(num_systems + 1)
  shape = counts.shape[:-2]
  counts = counts.reshape(-1, *counts.shape[-2:])
  totals = counts.sum(axis=2)
  seen = np.tensordot(counts, effects, 2)
  found = np.zeros((len(counts), num_systems + 1))
  for _ in range(_STEPS):
    logits = np.tensordot(found, effects, (1, 2))
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    shares = odds / odds.sum(axis=2, keepdims=True)
    expected = totals[..., None] * shares
    mean = np.einsum('rpo,pok->rpk', shares, effects)
    gradient = seen - np.tensordot(expected, effects, 2) - _RIDGE * found
    second = np.tensordot(expected, squares, 2) + ridge
    second -= np.swapaxes(totals[..., None] * mean, 1, 2) @ mean
    step = np.linalg.solve(second, gradient[..., None])[..., 0]
    longest = np.abs(step).max(axis=1, keepdims=True)
    found += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))
    if longest.max() < _CLOSE:
      break
  found = found[:, :-1]
  found = found - found.mean(axis=1, keepdims=True)
  return found.reshape(*shape, num_systems)


def bradley_terry(
  ratings: Ratings,
  units: Sequence[Hashable] | None = None,
  *,
  seed: int = 0,
  resamples: int = bootstrap.RESAMPLES,
) -> list[bootstrap.Interval]:
  """Strength of each system with bounds from resampled units.

  Args:
    ratings: Of all pairs.
    units: What is resampled, [N]; None: the prompts.
    seed: Of the resampling.
    resamples: Number of resamples.
  """
  counts, order = outcomes(ratings, ratings.prompts if units is None else units)
  rng = np.random.default_rng([seed, len(order)])
  share = np.full(len(order), 1 / len(order))
  weights = rng.multinomial(len(order), share, resamples).astype(np.float64)
  drawn = np.einsum('ru,upo->rpo', weights, counts, optimize=True)
  num_systems = len(ratings.systems)
  value = strengths(counts.sum(axis=0), num_systems)
  resampled = strengths(drawn, num_systems)
  return [
    bootstrap.bounds(value[k], resampled[:, k]) for k in range(num_systems)
  ]
