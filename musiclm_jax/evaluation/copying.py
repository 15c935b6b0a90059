"""Copying: how much of a 5 s semantic span stands in the training tokens.

tokens [T] -> spans [N, 125] -> per span the largest share of positions at
which one training span of the same length agrees (MusicLM §4.4).
Exact copies are almost always zero, also for a model that copies with a
single slip; the share sees those.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from musiclm_jax.evaluation import gates, statistics

SPAN_SECONDS = 5.0
# A span counts as a near copy when it agrees with a training span at more
# positions than this share of the held-out real pieces' spans do.
_HELD_OUT_QUANTILE = 0.95


@dataclasses.dataclass(frozen=True)
class Copying:
  """Shares of copied positions, one per span, and their owners.

  Attributes:
    shares: Largest share of equal positions per span [N], in [0, 1].
    units: Clip or piece of each span.
  """

  shares: np.ndarray
  units: Sequence

  def exact_rate(self) -> float:
    """Share of spans that equal a training span."""
    return float((self.shares >= 1.0).mean())

  def near_rates(self, threshold: float) -> np.ndarray:
    """Per unit, the share of its spans above `threshold` [U]."""
    return statistics.unit_means(self.shares > threshold, self.units)[0]


def spans(tokens: np.ndarray, length: int, stride: int) -> np.ndarray:
  """Cuts [T] into [N, length] every `stride` tokens; a tail is dropped."""
  tokens = np.asarray(tokens)
  starts = range(0, len(tokens) - length + 1, stride)
  if not len(starts):
    return np.zeros((0, length), tokens.dtype)
  return np.stack([tokens[start : start + length] for start in starts])


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
) -> Copying:
  """Measures all half-overlapping 5 s spans of token streams.

  Args:
    streams: Semantic tokens [T_i] of clips or pieces.
    units: Owner of each stream.
    training: The training tokens [T_j].
    frame_rate: Tokens per second.
  """
  length = round(SPAN_SECONDS * frame_rate)
  cut = [spans(tokens, length, max(1, length // 2)) for tokens in streams]
  owners = [
    unit
    for unit, part in zip(units, cut, strict=True)
    for _ in range(len(part))
  ]
  queries = np.concatenate(cut) if cut else np.zeros((0, length))
  return Copying(largest_shares(queries, training), owners)


def near_threshold(held_out: Copying) -> float:
  """Share that all but 5 % of the held-out real spans stay below."""
  return float(np.quantile(held_out.shares, _HELD_OUT_QUANTILE))


def gate(generated: Copying, held_out: Copying) -> gates.Gate:
  """`cascade_copy`: no more copies of training spans than in real pieces.

  Exact copies may not be more frequent, and near copies not above what
  chance among the clips explains (lower bound of the difference).

  Args:
    generated: Spans of generated clips, or of a cheat.
    held_out: Spans of held-out real pieces.
  """
  threshold = near_threshold(held_out)
  ours = generated.near_rates(threshold)
  real = held_out.near_rates(threshold)
  excess = statistics.bootstrap_two_samples(ours, real)
  chance = float(real.mean())
  return gates.make(
    'cascade_copy',
    excess.shifted(chance),
    chance,
    {
      'exact 5 s copies no more frequent than in held-out pieces': (
        generated.exact_rate() <= held_out.exact_rate()
      ),
      'near copies no more frequent than in held-out pieces': excess.low <= 0,
    },
  )


def figures(generated: Copying, held_out: Copying) -> dict:
  """Rates and typical shares of both, for the report."""
  threshold = near_threshold(held_out)
  return {
    'near_threshold': threshold,
    **{
      f'{name}_{figure}': value
      for name, part in (('generated', generated), ('held_out', held_out))
      for figure, value in (
        ('exact_rate', part.exact_rate()),
        ('near_rate', float(part.near_rates(threshold).mean())),
        ('mean_share', float(part.shares.mean())),
        ('largest_share', float(part.shares.max())),
      )
    },
  }
