"""Corpus statistics per dimension: [..., D] -> mean and variance [D].

AudioLM §4.1 normalises each dimension over the data, not each vector. They
are a plain dict, a collection: `mean` [D], `variance` [D] and `count`, the
frames that they were taken from.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

Statistics = Mapping[str, Array]


def init_statistics(
  dim: int, mean: float = 0.0, variance: float = 1.0
) -> Statistics:
  """Makes statistics of no frames, with values that hold until some come."""
  return {
    'mean': jnp.full((dim,), mean, jnp.float32),
    'variance': jnp.full((dim,), variance, jnp.float32),
    'count': jnp.zeros((), jnp.float32),
  }


def add_frames(
  statistics: Statistics,
  x: Float[Array, '... D'],
  memory: float = float('inf'),
) -> Statistics:
  """Merges a batch of frames into the statistics (Chan et al., 1979).

  Args:
    statistics: So far.
    x: Frames.
    memory: Most batches of this size that the past may weigh; finite where
      the data drift, for statistics that follow.
  """
  frames = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
  new = len(frames)
  past = jnp.minimum(statistics['count'], memory * new)
  total = past + new
  mean = frames.mean(axis=0)
  variance = jnp.mean((frames - mean) ** 2, axis=0)
  gap = mean - statistics['mean']
  return {
    'mean': statistics['mean'] + gap * (new / total),
    'variance': (past / total) * statistics['variance']
    + (new / total) * variance
    + gap**2 * (past / total) * (new / total),
    'count': total,
  }


def standardise(
  statistics: Statistics, x: Float[Array, '... D']
) -> Float[Array, '... D']:
  """Gives each dimension zero mean and unit variance over the corpus."""
  deviation = jnp.sqrt(statistics['variance'] + 1e-5)
  return (x.astype(jnp.float32) - statistics['mean']) / deviation
