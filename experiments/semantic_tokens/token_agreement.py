"""Do the same notes on another instrument give the same tokens?

Two takes of each piece, frame by frame -> the share of tokens that stay, and
the share that two *other* pieces have in common on the same two instruments:
tokens that say nothing but "a flute" agree among all flutes.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from musiclm_jax.metrics import bootstrap


@dataclasses.dataclass(frozen=True)
class Agreement:
  """Shares of equal tokens at equal frames, one of each piece.

  Attributes:
    kept: Between the two takes of a piece [U].
    chance: Between its first take and the second takes of other pieces on the
      same instruments [U].
  """

  kept: np.ndarray
  chance: np.ndarray

  def corrected(self, units: np.ndarray | None = None) -> float:
    """(kept - chance) / (1 - chance) of the mean shares: 1 is all of them.

    Tokens that are all alike keep nothing of the notes: 0.
    """
    kept, chance = self._means(units)
    return (kept - chance) / (1.0 - chance) if chance < 1.0 else 0.0

  def difference(self, units: np.ndarray | None = None) -> float:
    """kept - chance of the mean shares."""
    kept, chance = self._means(units)
    return kept - chance

  def _means(self, units: np.ndarray | None) -> tuple[float, float]:
    chosen = slice(None) if units is None else units
    return float(self.kept[chosen].mean()), float(self.chance[chosen].mean())


def measure(
  first: np.ndarray,
  second: np.ndarray,
  audible: np.ndarray,
  groups: Sequence[Hashable],
) -> list[Agreement]:
  """Compares two takes of each piece, level by level.

  Args:
    first: Tokens of the first takes, [U, T, Q].
    second: Of the second takes.
    audible: Frames at which a note sounds, [U, T]; silence is always the same.
    groups: Instruments of each piece's takes [U]; takes of one group are
      played by the same ones.

  Returns:
    The agreement at each of the Q levels.

  Raises:
    ValueError: If a piece is alone in its group, so that it has no chance.
  """
  groups = list(groups)
  kept, chance = [], []
  for u, group in enumerate(groups):
    others = [v for v, g in enumerate(groups) if g == group and v != u]
    if not others:
      raise ValueError(f'expected two pieces or more on {group}, got one')
    kept.append(_equal(first[u], second[u], audible[u]))
    chance.append(
      np.mean(
        [_equal(first[u], second[v], audible[u] & audible[v]) for v in others],
        axis=0,
      )
    )
  return [
    Agreement(k, c)
    for k, c in zip(np.transpose(kept), np.transpose(chance), strict=True)
  ]


def mean_of(levels: Sequence[Agreement]) -> Agreement:
  """The agreement of all tokens of several levels."""
  return Agreement(
    np.mean([level.kept for level in levels], axis=0),
    np.mean([level.chance for level in levels], axis=0),
  )


def interval(agreement: Agreement, *, seed: int = 0) -> bootstrap.Interval:
  """Bounds of the corrected share, over pieces."""
  return bootstrap.statistic(
    agreement.corrected, len(agreement.kept), seed=seed
  )


def ratio(
  ours: Agreement, theirs: Agreement, *, seed: int = 0
) -> bootstrap.Interval:
  """Bounds of how often more ours is kept, both corrected, over pieces.

  A resample in which theirs is not above chance counts as infinitely often
  where ours is, and as 0 where ours is not either.
  """

  def of(units: np.ndarray) -> float:
    kept, below = ours.corrected(units), theirs.corrected(units)
    if below > 0:
      return kept / below
    return np.inf if kept > 0 else 0.0

  return bootstrap.statistic(of, len(ours.kept), seed=seed)


def _equal(
  one: np.ndarray, other: np.ndarray, audible: np.ndarray
) -> np.ndarray:
  """Share of equal tokens at the audible frames, [Q]; 0 if there is none."""
  if not audible.any():
    return np.zeros(one.shape[1])
  return (one[audible] == other[audible]).mean(axis=0)
