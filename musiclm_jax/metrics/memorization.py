"""Memorization: how much of a 5 s semantic span stands in training tokens.

tokens [T] -> spans [N, 125] -> per span the largest share of positions at
which one training span of the same length agrees (MusicLM §4.4). Exact copies
are almost always zero, also for a model that copies with a single slip; the
share sees those.

tokens -> histogram over ids [K] -> cost of turning one into the other, where
moving a token costs the distance of the two k-means centroids: an approximate
match, whatever the order. The cost below which spans match depends on the
centroids, so it is found on spans that are no copies: `threshold_at`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from musiclm_jax.metrics import bootstrap

SPAN_SECONDS = 5.0
_REGULARIZATION = 0.02
_ITERATIONS = 100
_CHANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Copying:
  """Shares of copied positions, one per span, and their owners.

  Attributes:
    shares: Largest share of equal positions per span [N], in [0, 1].
    units: Clip or piece of each span.
    left_out: Number of spans of too little entropy, which are not in `shares`.
  """

  shares: np.ndarray
  units: Sequence
  left_out: int = 0

  def exact_rate(self) -> float:
    """Share of spans that equal a training span."""
    return float((self.shares >= 1.0).mean())

  def near_rates(self, threshold: float) -> np.ndarray:
    """Per unit, the share of its spans above `threshold` [U]."""
    return bootstrap.unit_means(self.shares > threshold, self.units)[0]


def spans(tokens: np.ndarray, length: int, stride: int) -> np.ndarray:
  """Cuts [T] into [N, length] every `stride` tokens; a tail is dropped."""
  tokens = np.asarray(tokens)
  starts = range(0, len(tokens) - length + 1, stride)
  if not len(starts):
    return np.zeros((0, length), tokens.dtype)
  return np.stack([tokens[start : start + length] for start in starts])


def entropies(queries: np.ndarray) -> np.ndarray:
  """Entropy of the ids within each span [N, L], in bits [N].

  A span that holds one token has none: it equals every other such span, of
  music that was never heard as well.
  """
  out = np.zeros(len(queries))
  for row, query in enumerate(queries):
    shares = np.unique(query, return_counts=True)[1] / len(query)
    out[row] = -(shares * np.log2(shares)).sum()
  return out


def largest_shares(
  queries: np.ndarray, training: Sequence[np.ndarray]
) -> np.ndarray:
  """Best agreement of each query with any training span of its length.

  Args:
    queries: Spans [N, L].
    training: Token streams [T_i]; a span never crosses two of them.

  Returns:
    Share of equal positions, [N] in [0, 1]; 0 where nothing is long enough.
  """
  length = queries.shape[1] if queries.ndim == 2 else 0
  streams = [np.asarray(t) for t in training if len(t) >= length]
  if not len(queries) or not streams:
    return np.zeros(len(queries))
  joined = np.concatenate(streams).astype(np.int16)
  ends = np.cumsum([len(t) for t in streams])
  num_starts = len(joined) - length + 1
  legal = np.ones(num_starts, bool)
  for end in ends[:-1]:
    legal[max(0, end - length + 1) : end] = False
  best = np.zeros(len(queries))
  equal = np.empty(num_starts, bool)
  for row, query in enumerate(queries.astype(np.int16)):
    counts = np.zeros(num_starts, np.uint16)
    for offset in range(length):
      np.equal(joined[offset : offset + num_starts], query[offset], out=equal)
      counts += equal
    best[row] = counts[legal].max() / length
  return best


def measure(
  streams: Sequence[np.ndarray],
  units: Sequence,
  training: Sequence[np.ndarray],
  *,
  frame_rate: float,
  least_bits: float = 0.0,
) -> Copying:
  """Measures all half-overlapping 5 s spans of token streams.

  Args:
    streams: Semantic tokens [T_i] of clips or pieces.
    units: Owner of each stream.
    training: The training tokens [T_j].
    frame_rate: Tokens per second.
    least_bits: Spans of less entropy are left out; see `entropies`.
  """
  length = round(SPAN_SECONDS * frame_rate)
  cut = [spans(tokens, length, max(1, length // 2)) for tokens in streams]
  owners = [
    unit
    for unit, part in zip(units, cut, strict=True)
    for _ in range(len(part))
  ]
  queries = np.concatenate(cut) if cut else np.zeros((0, length))
  told = entropies(queries) >= least_bits
  return Copying(
    largest_shares(queries[told], training),
    [owner for owner, kept in zip(owners, told, strict=True) if kept],
    int((~told).sum()),
  )


def histograms(queries: np.ndarray, codebook_size: int) -> np.ndarray:
  """Share of each id in spans [N, L], float64 [N, K]."""
  counts = np.stack(
    [np.bincount(row, minlength=codebook_size) for row in queries]
  )
  return counts / counts.sum(axis=1, keepdims=True)


def transport_cost(
  ours: np.ndarray,
  theirs: np.ndarray,
  centroids: np.ndarray,
  *,
  regularization: float = _REGULARIZATION,
  iterations: int = _ITERATIONS,
) -> float:
  """Cost of the entropic transport between two histograms (Cuturi 2013).

  Sinkhorn's iterations in the log domain, over the ids that occur.

  Args:
    ours: Histogram [K] that sums to 1.
    theirs: Likewise.
    centroids: Of the ids, [K, D]; moving a share costs their distance.
    regularization: Weight of the entropy, as a share of the mean distance: the
      cost is above that of the best plan by about as much.
    iterations: Of Sinkhorn.

  Returns:
    In units of the centroids, at least the distance of the histograms' means.
  """
  rows, columns = np.flatnonzero(ours), np.flatnonzero(theirs)
  costs = _distances(centroids[rows], centroids[columns])
  scale = regularization * costs.mean()
  if not scale > 0:
    return 0.0  # one id, the same in both
  kernel = -costs / scale
  log_a, log_b = np.log(ours[rows]), np.log(theirs[columns])
  g = np.zeros(len(columns))
  for _ in range(iterations):
    f = log_a - _log_sum_exp(kernel + g, axis=1)
    g = log_b - _log_sum_exp(kernel + f[:, None], axis=0)
  plan = np.exp(kernel + f[:, None] + g)
  return float((plan * costs).sum())


def transport_costs(
  queries: np.ndarray, targets: np.ndarray, centroids: np.ndarray
) -> np.ndarray:
  """Cost of each span to its own target, as the paper compares them.

  Args:
    queries: Generated spans [N, L].
    targets: What followed the prompts in training, [N, L].
    centroids: Of the ids, [K, D].

  Returns:
    [N], in units of the centroids.
  """
  sides = [histograms(x, len(centroids)) for x in (queries, targets)]
  return np.array(
    [transport_cost(a, b, centroids) for a, b in zip(*sides, strict=True)]
  )


def nearest_costs(
  queries: np.ndarray, training: np.ndarray, centroids: np.ndarray
) -> np.ndarray:
  """Cost of each span to the nearest training span.

  No transport is cheaper than the distance of the two means: training spans
  are tried by that distance until it is more than the best cost.

  Args:
    queries: Spans [N, L].
    training: Spans [M, L], one or more.
    centroids: Of the ids, [K, D].

  Returns:
    [N], in units of the centroids.
  """
  sides = [histograms(x, len(centroids)) for x in (queries, training)]
  bounds = _distances(*(side @ centroids for side in sides))
  best = np.full(len(queries), np.inf)
  for row, histogram in enumerate(sides[0]):
    for column in np.argsort(bounds[row]):
      if bounds[row, column] >= best[row]:
        break
      cost = transport_cost(histogram, sides[1][column], centroids)
      best[row] = min(best[row], cost)
  return best


def threshold_at(negatives: np.ndarray, rate: float) -> float:
  """The cost below which no more than a share of non-copies lies.

  Args:
    negatives: Costs of spans that are no copies; a bound of 1 % needs 300.
    rate: That share, in [0, 1).

  Raises:
    ValueError: If there are fewer negatives than the share can be seen on.
  """
  ordered = np.sort(np.asarray(negatives, np.float64))
  if len(ordered) < 1 or (rate > 0 and rate * len(ordered) < 1):
    raise ValueError(
      f'a rate of {rate:g} cannot be seen on {len(ordered)} negatives: give '
      'more'
    )
  return float(ordered[int(rate * len(ordered))])


def bounded_threshold(negatives: np.ndarray, rate: float) -> float:
  """The cost below which a share of non-copies lies with 95 % confidence.

  Of n negatives so many may lie below that chance would let so few do so in
  5 % of cases only, if the share were true: none of 300 for 1 %.

  Args:
    negatives: Costs of spans that are no copies, one or more.
    rate: The share, in (0, 1).

  Returns:
    The lowest cost of all where there are too few negatives for the rate.
  """
  ordered = np.sort(np.asarray(negatives, np.float64))
  if not len(ordered):
    raise ValueError('expected one negative or more')
  passing = np.log(rate) - np.log1p(-rate)
  # log P(X = k), one after another, until they sum to 5 %.
  term, total, allowed = len(ordered) * np.log1p(-rate), 0.0, -1
  while allowed + 1 < len(ordered):
    total += np.exp(term)
    if total > _CHANCE:
      break
    allowed += 1
    term += np.log((len(ordered) - allowed) / (allowed + 1)) + passing
  return float(ordered[max(allowed, 0)])


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Euclidean distances of rows, [N, M]."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
  return np.sqrt(np.maximum(squares - 2 * a @ b.T, 0.0))


def _log_sum_exp(x: np.ndarray, axis: int) -> np.ndarray:
  most = x.max(axis=axis, keepdims=True)
  total = np.log(np.exp(x - most).sum(axis=axis))
  return total + most.squeeze(axis)
