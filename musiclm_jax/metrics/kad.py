"""Kernel audio distance of two sets of embeddings [N, D] (Chung et al. 2025).

100 × the unbiased MMD² under a Gaussian kernel exp(-d² / 2σ²), σ the median
distance of the reference's rows: the two sets cannot be exchanged, and close
ones may come out below 0. Kernels are summed block by block, so that memory
does not grow with N².

The published figure counts all pairs of a set. Rows of one clip are alike, so
that two halves of one set come out above 0; `between_clips` leaves pairs of one
clip out and has no such bias. Its bounds are those of the figure.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from musiclm_jax.metrics import bootstrap

SCALE = 100.0
MEDIAN_ROWS = 2000  # from whose pairs the median distance is taken
_BLOCK = 256
_GROUPS = 64  # of clips, which are resampled
_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class KernelDistance:
  """A kernel distance and how it was computed.

  Attributes:
    value: As published, of all pairs of different rows.
    bandwidth: σ.
    between_clips: Of pairs of different clips, with one-sided 95 % bounds from
      resampled groups of clips; None where a set has fewer than two clips.
  """

  value: float
  bandwidth: float
  between_clips: bootstrap.Interval | None


def median_distance(
  embeddings: np.ndarray, *, max_rows: int = MEDIAN_ROWS, seed: int = 0
) -> float:
  """Median distance of two different rows.

  Args:
    embeddings: [N, D].
    max_rows: Of more rows so many are drawn without replacement.
    seed: Of that draw.

  Raises:
    ValueError: If there are fewer than 2 rows, or more than half of all pairs
      are equal, for which there is no kernel.
  """
  rows = np.asarray(embeddings, np.float64)
  if len(rows) < 2:
    raise ValueError(f'a distance needs 2 rows or more, got {len(rows)}')
  if len(rows) > max_rows:
    rng = np.random.default_rng([seed, len(rows)])
    rows = rows[np.sort(rng.permutation(len(rows))[:max_rows])]
  rows = rows - rows.mean(axis=0)
  squares, filled = np.empty(len(rows) * (len(rows) - 1) // 2), 0
  for start, part in _blocks(rows):
    above = np.triu_indices(len(part), 1, len(rows) - start)
    found = _squared_distances(part, rows[start:])[above]
    squares[filled : filled + len(found)] = found
    filled += len(found)
  # In place, as there are millions of pairs.
  distances = np.sqrt(squares, out=squares)
  median = float(np.median(distances, overwrite_input=True))
  if not median > 0:
    raise ValueError(
      'more than half of the reference is the same embedding: the median '
      'distance is 0, and there is no kernel of that width'
    )
  return median


def kernel_audio_distance(
  reference: np.ndarray,
  generated: np.ndarray,
  *,
  reference_clips: np.ndarray | None = None,
  generated_clips: np.ndarray | None = None,
  bandwidth: float | None = None,
  seed: int = 0,
) -> KernelDistance:
  """Compares two sets in float64.

  Args:
    reference: [M, D], two rows or more.
    generated: [N, D], likewise.
    reference_clips: Which clip each row is of, int [M]; None: each of its own.
    generated_clips: Likewise, int [N].
    bandwidth: σ; None takes `median_distance` of the reference.
    seed: Of that median's sample and of the resampling.

  Raises:
    ValueError: If a set has fewer than 2 rows, or the widths differ.
  """
  sets = [np.asarray(x, np.float64) for x in (reference, generated)]
  if min(map(len, sets)) < 2:
    raise ValueError(
      f'expected 2 rows or more of both sets, got {len(sets[0])} and '
      f'{len(sets[1])}'
    )
  if sets[0].shape[1] != sets[1].shape[1]:
    raise ValueError(
      f'expected embeddings of one width, got {sets[0].shape} and '
      f'{sets[1].shape}'
    )
  if bandwidth is None:
    bandwidth = median_distance(sets[0], seed=seed)
  # Distances are as they were, and their rounding is smaller.
  centre = sets[0].mean(axis=0)
  sets = [(x - centre) / bandwidth for x in sets]
  clips = [
    np.arange(len(x)) if given is None else np.unique(given, False, True)[1]
    for x, given in zip(sets, (reference_clips, generated_clips), strict=True)
  ]
  groups = [_groups(part, seed) for part in clips]
  own = [
    _own_sums(x, *parts) for x, *parts in zip(sets, clips, groups, strict=True)
  ]
  cross = _cross_sums(*sets, *groups)
  value = sum(
    total / (len(x) * (len(x) - 1))
    for x, (total, _) in zip(sets, own, strict=True)
  )
  value -= 2 * cross.sum() / (len(sets[0]) * len(sets[1]))
  return KernelDistance(
    SCALE * float(value),
    float(bandwidth),
    _between_clips([sums for _, sums in own], cross, clips, groups, seed),
  )


def paired_distances(
  reference: np.ndarray,
  others: Sequence[np.ndarray],
  clips: np.ndarray,
  *,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """Compares versions of the same clips, on the same resamples of clips.

  Pairs of rows of one clip are left out, between the sets as within them: what
  is left says how the sets differ, without bias, and of equal sets it is 0.

  Args:
    reference: [N, D].
    others: K of [N, D], whose rows are of the same clips as the reference's.
    clips: Which clip each row is of, int [N]; two or more.
    seed: Of that median's sample and of the resampling.

  Returns:
    The distances, [K], and those of each resample of groups of clips, [R, K].

  Raises:
    ValueError: If the sets are not paired, or there are fewer than 2 clips.
  """
  sets = [np.asarray(x, np.float64) for x in (reference, *others)]
  if any(x.shape != sets[0].shape for x in sets):
    raise ValueError(
      'expected as many rows of one width of each set, got '
      f'{[x.shape for x in sets]}'
    )
  clips = np.unique(clips, False, True)[1]
  if not len(clips) or clips.max() < 1:
    raise ValueError('expected 2 clips or more')
  width = median_distance(sets[0], seed=seed)
  centre = sets[0].mean(axis=0)
  sets = [(x - centre) / width for x in sets]
  groups = _groups(clips, seed)
  pairs = _pairs(clips, groups)
  own = [_own_sums(x, clips, groups)[1] for x in sets]
  rng = np.random.default_rng([seed, len(clips)])
  drawn = _drawn_weights(rng, np.bincount(groups, minlength=_GROUPS))
  every = np.ones((1, _GROUPS))
  found = []
  for x, sums in zip(sets[1:], own[1:], strict=True):
    across = _paired_sums(sets[0], x, clips, groups)
    sums = own[0] + sums - across - across.T
    with np.errstate(invalid='ignore', divide='ignore'):
      values = [_within(sums, w) / _within(pairs, w) for w in (every, drawn)]
    found.append(SCALE * np.concatenate(values))
  columns = np.stack(found, axis=1)
  return columns[0], columns[1:]


def squared_discrepancy(reference: np.ndarray, other: np.ndarray) -> float:
  """100 × the squared MMD of few rows, a row's pair with itself included.

  With these pairs it is the distance of two means of features: not unbiased,
  but never below 0, and 0 of equal rows.

  Args:
    reference: [M, D], in units of σ.
    other: [N, D], likewise.
  """
  means = [
    float(np.exp(-0.5 * _squared_distances(a, b)).mean())
    for a, b in (
      (reference, reference),
      (other, other),
      (reference, other),
    )
  ]
  return max(SCALE * (means[0] + means[1] - 2 * means[2]), 0.0)


def _blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
  for start in range(0, len(rows), _BLOCK):
    yield start, rows[start : start + _BLOCK]


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
  return np.maximum(squares - 2.0 * (a @ b.T), 0.0)


def _groups(clips: np.ndarray, seed: int) -> np.ndarray:
  """Group of each row, int [N]: whole clips, dealt out at random."""
  count = clips.max() + 1
  rng = np.random.default_rng([seed, count])
  return (rng.permutation(count) % _GROUPS)[clips]


def _own_sums(
  x: np.ndarray, clips: np.ndarray, groups: np.ndarray
) -> tuple[float, np.ndarray]:
  """Kernels of all pairs of rows, and those of different clips by groups."""
  total, sums = 0.0, np.zeros((_GROUPS, _GROUPS))
  for (i, a), (j, b) in itertools.product(_blocks(x), repeat=2):
    if j < i:
      continue
    kernel = np.exp(-0.5 * _squared_distances(a, b))
    if i == j:
      np.fill_diagonal(kernel, 0.0)
    twice = 1.0 if i == j else 2.0
    total += twice * kernel.sum()
    rows, columns = slice(i, i + len(a)), slice(j, j + len(b))
    kernel[clips[rows, None] == clips[columns]] = 0.0
    found = _summed(kernel, groups[rows], groups[columns])
    sums += found if i == j else found + found.T
  return total, sums


def _cross_sums(
  x: np.ndarray, y: np.ndarray, x_groups: np.ndarray, y_groups: np.ndarray
) -> np.ndarray:
  """Kernels of all pairs of two sets, summed by groups."""
  sums = np.zeros((_GROUPS, _GROUPS))
  for (i, a), (j, b) in itertools.product(_blocks(x), _blocks(y)):
    kernel = np.exp(-0.5 * _squared_distances(a, b))
    sums += _summed(kernel, x_groups[i : i + len(a)], y_groups[j : j + len(b)])
  return sums


def _paired_sums(
  x: np.ndarray, y: np.ndarray, clips: np.ndarray, groups: np.ndarray
) -> np.ndarray:
  """Kernels of rows of two sets that are not of one clip, by groups."""
  sums = np.zeros((_GROUPS, _GROUPS))
  for (i, a), (j, b) in itertools.product(_blocks(x), _blocks(y)):
    kernel = np.exp(-0.5 * _squared_distances(a, b))
    rows, columns = slice(i, i + len(a)), slice(j, j + len(b))
    kernel[clips[rows, None] == clips[columns]] = 0.0
    sums += _summed(kernel, groups[rows], groups[columns])
  return sums


def _summed(
  kernel: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
  """Sums a block by the groups of its rows and columns, [G, G]."""
  left, right = np.eye(_GROUPS)[rows], np.eye(_GROUPS)[columns]
  return left.T @ kernel @ right


def _pairs(clips: np.ndarray, groups: np.ndarray) -> np.ndarray:
  """Counts the pairs of rows of different clips by groups, [G, G]."""
  sizes = np.bincount(groups, minlength=_GROUPS).astype(np.float64)
  pairs = np.outer(sizes, sizes)
  of_clip = np.bincount(clips).astype(np.float64)
  group_of = np.zeros(len(of_clip), np.int64)
  group_of[clips] = groups
  own = np.bincount(group_of, np.square(of_clip), minlength=_GROUPS)
  return pairs - np.diag(own)


def _between_clips(
  own: list[np.ndarray],
  cross: np.ndarray,
  clips: list[np.ndarray],
  groups: list[np.ndarray],
  seed: int,
) -> bootstrap.Interval | None:
  """The distance over pairs of different clips, groups resampled.

  A group that is drawn twice is two groups that happen to be equal: pairs
  between them would be of one clip, and are left out like all such pairs.
  """
  pairs = [
    _pairs(part, group) for part, group in zip(clips, groups, strict=True)
  ]
  if any(part.sum() == 0 for part in pairs):
    return None
  sizes = [np.bincount(g, minlength=_GROUPS).astype(float) for g in groups]
  cross_pairs = np.outer(*sizes)

  def figures(weights: list[np.ndarray]) -> np.ndarray:
    found = sum(
      _within(sums, w) / _within(part, w)
      for sums, part, w in zip(own, pairs, weights, strict=True)
    )
    across = [
      np.einsum('rg,gh,rh->r', weights[0], sums, weights[1])
      for sums in (cross, cross_pairs)
    ]
    return SCALE * (found - 2 * across[0] / across[1])

  rng = np.random.default_rng([seed, len(clips[0]), len(clips[1])])
  drawn = [_drawn_weights(rng, size) for size in sizes]
  value = float(figures([np.ones((1, _GROUPS))] * 2)[0])
  with np.errstate(invalid='ignore', divide='ignore'):
    resampled = figures(drawn)
  return bootstrap.bounds(value, resampled[np.isfinite(resampled)])


def _within(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Sums [G, G] of pairs within resampled sets, for weights [R, G].

  Weights count w w' between groups and w within one: see `_between_clips`.
  """
  all_pairs = np.einsum('rg,gh,rh->r', weights, sums, weights)
  excess = np.einsum('rg,g->r', weights**2 - weights, np.diag(sums))
  return all_pairs - excess


def _drawn_weights(rng: np.random.Generator, sizes: np.ndarray) -> np.ndarray:
  """How often each group that has rows is drawn, [R, G]."""
  filled = np.flatnonzero(sizes)
  weights = np.zeros((_RESAMPLES, _GROUPS))
  weights[:, filled] = rng.multinomial(
    len(filled), np.full(len(filled), 1 / len(filled)), _RESAMPLES
  )
  return weights
