"""Relative biases of attention: distances in tokens or time -> logits.

A bias that depends on the distance alone travels as one row of [H, S + n]
numbers and becomes a matrix (`toeplitz`) only where a block of queries needs
it: neither [H, T, T] nor a scatter in its gradient is ever made.
"""

import functools
import math

import flax.struct
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.einsum import parameter


@flax.struct.dataclass
class RowBias:
  """A bias that depends on more than the distance, few distinct rows of it.

  Attributes:
    table: [H, R, W], added to the logits of the first W keys.
    rows: int32 [T], which row of the table each query takes.
  """

  table: Array
  rows: Array

  def matrix(self, num_keys: int) -> Array:
    """Returns the whole bias, [H, T, num_keys]."""
    bias = self.table[:, self.rows, :num_keys]
    missing = num_keys - bias.shape[2]
    return jnp.pad(bias, ((0, 0), (0, 0), (0, missing)))


def relative_bucket(
  distance: np.ndarray,
  *,
  num_buckets: int,
  max_distance: int,
  bidirectional: bool,
) -> np.ndarray:
  """Maps distances in tokens to buckets as T5 does.

  Half of the buckets hold one distance each, the other half grow
  logarithmically up to `max_distance`, beyond which all share the last one.

  Args:
    distance: Query position minus key position, any shape.
    num_buckets: In all.
    max_distance: Where the last bucket begins to be shared, in tokens.
    bidirectional: Whether keys after the query get a half of the buckets of
      their own; otherwise they share bucket 0 (and are masked anyway).

  Returns:
    int32 buckets in [0, num_buckets).

  Raises:
    UsageError: If the buckets reach beyond `max_distance`.
  """
  offset = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    offset = np.where(distance < 0, num_buckets, 0)
    distance = np.abs(distance)
  distance = np.maximum(distance, 0)
  exact = num_buckets // 2
  if not 0 < exact < max_distance:
    raise UsageError(
      f'{num_buckets} buckets a direction, of 2 or more, need a maximal '
      f'distance above {exact}, it is {max_distance}: change '
      '--config.model.relative_buckets, relative_max_distance or time_buckets'
    )
  ratio = np.log(np.maximum(distance, 1).astype(np.float32) / exact)
  large = exact + (
    ratio / math.log(max_distance / exact) * (num_buckets - exact)
  ).astype(np.int64)
  large = np.minimum(large, num_buckets - 1)
  return (offset + np.where(distance < exact, distance, large)).astype(np.int32)


class RelativeBias(nn.Module):
  """Holds one bias per bucket and head, shared by all layers (T5).

  Attributes:
    num_heads: H.
    num_buckets: Of distances.
    max_distance: In tokens.
    bidirectional: Whether keys after the query have buckets of their own.
    gain: Multiplies the table, whose initial values are divided by it. Adam
      moves a parameter by about the learning rate a step: a run of hundreds
      of steps could not move a logit otherwise.
    peak: Initial bias of every second head at short distances.
    peak_reach: How many distances from 0 on are short.
  """

  num_heads: int
  num_buckets: int
  max_distance: int
  bidirectional: bool
  gain: float = 1.0
  peak: float = 0.0
  peak_reach: int = 1

  @nn.compact
  def __call__(self, length: int) -> Array:
    """Returns the biases by falling distance, [H, 2 * length - 1] float32.

    Entry k belongs to the distance length - 1 - k, query minus key.
    """
    bucket = functools.partial(
      relative_bucket,
      num_buckets=self.num_buckets,
      max_distance=self.max_distance,
      bidirectional=self.bidirectional,
    )
    spread = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')

    def init(rng, shape):
      table = spread(rng, shape)
      if self.peak:
        near = np.unique(bucket(np.arange(self.peak_reach)))
        table = table.at[near, ::2].set(self.peak)
      return table / self.gain

    table = parameter(
      self,
      'table',
      init,
      (self.num_buckets, self.num_heads),
      (None, 'heads'),
    )
    buckets = bucket(np.arange(length - 1, -length, -1))
    return self.gain * table[buckets].T


def toeplitz(row: Array, num_queries: int) -> Array:
  """Lays a row out as a matrix of constant diagonals.

  Made by doubling: the upper half of the rows is the lower one, shifted. Its
  gradient is the same in reverse, a sum of halves, neither a scatter nor a
  change of layout.

  Args:
    row: [H, n + S - 1], n = `num_queries`.
    num_queries: Rows of the matrix.

  Returns:
    [H, n, S] whose entry (i, j) is `row[n - 1 - i + j]`.
  """
  if num_queries == 1:
    return row[:, None]
  if num_queries % 2:
    row = jnp.pad(row, ((0, 0), (0, 1)))
    return toeplitz(row, num_queries + 1)[:, 1:]
  half = num_queries // 2
  lower = toeplitz(row, half)
  return jnp.concatenate([lower[..., half:], lower[..., :-half]], axis=1)
