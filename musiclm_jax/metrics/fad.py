"""Fréchet audio distance of two sets of embeddings (Kilgour et al. 2019).

rows [N, D] -> `EmbeddingStatistics` (float64; no row is kept) -> distance

d² = |μ₁ - μ₂|² + Tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½). The trace of the root is the sum of
the singular values of R₁ R₂ᵀ where Σ = Rᵀ R: unlike a matrix root it is real
and exact to rounding for covariances without full rank, also for equal ones.

Of few rows the distance comes out too large, by about c / n: FAD∞ is where a
line through the distances of n of the rows meets 1/n = 0 (Gui et al. 2024).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from musiclm_jax.metrics import bootstrap

# Shares of all groups of rows, evenly spaced in 1/n.
_SHARES = tuple(1.0 / inverse for inverse in np.linspace(1.0, 2.5, 7))
_DRAWS = 6  # of groups, for each share


@dataclasses.dataclass(frozen=True)
class EmbeddingStatistics:
  """Number, mean and scatter of rows; what FAD needs to know of a set.

  Attributes:
    count: Rows.
    mean: float64 [D].
    scatter: Sum of outer products of what is left of the mean, float64 [D, D].
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def empty(cls, dimension: int) -> 'EmbeddingStatistics':
    """Those of no rows of D numbers."""
    return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

  def update(self, embeddings: np.ndarray) -> 'EmbeddingStatistics':
    """Those of these rows and of others, [N, D].

    Raises:
      ValueError: If a value is not finite, which would spoil all others.
    """
    rows = np.asarray(embeddings, np.float64)
    if not len(rows):
      return self
    if not np.isfinite(rows).all():
      raise ValueError('expected finite embeddings, got NaN or infinity')
    mean = rows.mean(axis=0)
    centred = rows - mean
    return self.merge(EmbeddingStatistics(len(rows), mean, centred.T @ centred))

  def merge(self, other: 'EmbeddingStatistics') -> 'EmbeddingStatistics':
    """Those of the rows of both (Chan et al. 1979)."""
    count = self.count + other.count
    if not count:
      return self
    delta = other.mean - self.mean
    share = other.count / count
    return EmbeddingStatistics(
      count,
      self.mean + share * delta,
      self.scatter
      + other.scatter
      + np.outer(delta, delta) * (self.count * share),
    )

  @property
  def covariance(self) -> np.ndarray:
    """Unbiased covariance, float64 [D, D].

    Raises:
      ValueError: If there are fewer than 2 rows.
    """
    if self.count < 2:
      raise ValueError(f'a covariance needs 2 rows or more, got {self.count}')
    return self.scatter / (self.count - 1)

  @property
  def is_full_rank(self) -> bool:
    """Whether there are rows enough for a covariance of full rank."""
    return self.count > len(self.mean)

  @functools.cached_property
  def root(self) -> np.ndarray:
    """R [D, D] with Rᵀ R the covariance; its rows are scaled eigenvectors."""
    values, vectors = np.linalg.eigh(self.covariance)
    noise = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    values = np.where(values > noise, values, 0.0)
    return np.sqrt(values)[:, None] * vectors.T


def frechet_distance(
  reference: EmbeddingStatistics, generated: EmbeddingStatistics
) -> float:
  """Squared Fréchet distance of the Gaussians of two sets, at least 0.

  Raises:
    ValueError: If a set has fewer than 2 rows, or the widths differ.
  """
  return _distance(reference, generated.mean, generated.root)


def song_distance(
  reference: EmbeddingStatistics, embeddings: np.ndarray
) -> float | None:
  """FAD of one song (Gui et al. 2024): of its rows [N, D] alone.

  It ranks songs; as its covariance rests on few rows, it is far above the FAD
  of a set. None for fewer than 2 rows.
  """
  rows = np.asarray(embeddings, np.float64)
  if len(rows) < 2:
    return None
  mean = rows.mean(axis=0)
  return _distance(reference, mean, (rows - mean) / np.sqrt(len(rows) - 1))


def _distance(
  reference: EmbeddingStatistics, mean: np.ndarray, root: np.ndarray
) -> float:
  """Distance to a Gaussian of covariance `root.T @ root`."""
  if reference.mean.shape != mean.shape:
    raise ValueError(
      f'expected embeddings of one width, got {reference.mean.shape} and '
      f'{mean.shape}'
    )
  both = np.linalg.svd(reference.root @ root.T, compute_uv=False)
  offset = reference.mean - mean
  distance = (
    offset @ offset
    + np.trace(reference.covariance)
    + np.square(root).sum()
    - 2 * both.sum()
  )
  return max(float(distance), 0.0)


def fad_infinity(
  reference: EmbeddingStatistics,
  groups: Sequence[EmbeddingStatistics],
  *,
  seed: int = 0,
) -> float | None:
  """FAD of infinitely many rows, by regression on 1/n over seven sizes.

  Args:
    reference: Of all rows of the reference.
    groups: Of disjoint groups of the other set's rows, drawn at random; 20 or
      more. A smaller set is a union of some of them, so no row is needed.
    seed: Of the draws.

  Returns:
    The intercept, which may be below 0; None if there are fewer than 5 sizes
    of at least two groups each.
  """
  rng = np.random.default_rng([seed, len(groups)])
  sizes = sorted({round(share * len(groups)) for share in _SHARES})
  sizes = [size for size in sizes if size >= 2]
  if len(sizes) < 5:
    return None
  inverses, distances = [], []
  for size in sizes:
    draws = [rng.permutation(len(groups))[:size] for _ in range(_DRAWS)]
    if size == len(groups):
      draws = draws[:1]  # there is one such set
    found = [merged([groups[k] for k in drawn]) for drawn in draws]
    inverses.append(np.mean([1.0 / part.count for part in found]))
    distances.append(
      np.mean([frechet_distance(reference, part) for part in found])
    )
  return float(np.polyfit(inverses, distances, 1)[1])


def interval(
  reference: EmbeddingStatistics,
  groups: Sequence[EmbeddingStatistics],
  *,
  seed: int = 0,
) -> bootstrap.Interval:
  """One-sided 95 % bounds of FAD from the spread of resampled groups.

  Groups of clips are resampled, of the generated set alone. The percentiles of
  resamples would all be too high, as repeated rows lower the number of
  different ones; their spread is not.

  Args:
    reference: Of all rows of the reference.
    groups: As of `fad_infinity`; two or more.
    seed: Of the resampling.
  """

  def figure(rows: np.ndarray) -> float:
    return frechet_distance(reference, merged([groups[k] for k in rows]))

  return bootstrap.spread(figure, len(groups), seed=seed)


def merged(groups: Sequence[EmbeddingStatistics]) -> EmbeddingStatistics:
  """Those of the rows of all groups, one or more."""
  return functools.reduce(EmbeddingStatistics.merge, groups)
