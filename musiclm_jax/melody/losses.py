"""The semi-hard triplet loss: unit vectors [B, 2, D] -> loss [2 B]."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Embedding


def squared_distances(x: Embedding, y: Embedding) -> Float[Array, 'B B']:
  """Squared L2 distances of unit vectors, x_i to y_j at [i, j], in [0, 4]."""
  cosines = jnp.matmul(
    x.astype(jnp.float32),
    y.astype(jnp.float32).T,
    precision=jax.lax.Precision.HIGHEST,
  )
  return 2.0 - 2.0 * cosines


def triplet_loss(
  pairs: Float[Array, 'B P D'], group: Int[Array, ' B'], margin: float
) -> Float[Array, ' N']:
  """Triplet loss with semi-hard negatives (FaceNet §3.2).

    L_a = max(0, d(a, p) - d(a, n) + m),  d squared L2 of unit vectors

  Each of both views of a pair is an anchor once, the other one its positive.
  Its negative is, of both views of the pairs of other groups, the nearest that
  is farther than the positive by less than m; where there is none, the nearest
  of all. A choice has no gradient.

  Args:
    pairs: Unit vectors, two views of each melody (P = 2).
    group: Pairs of one group are no negatives of each other.
    margin: m; 0.2 in FaceNet.

  Returns:
    Loss of each anchor [2 B], first all first views; 0 without a negative.
  """
  views = pairs.swapaxes(0, 1).reshape(-1, pairs.shape[-1])
  others = pairs[:, ::-1].swapaxes(0, 1).reshape(views.shape)
  positive = jnp.sum(jnp.square(views - others), axis=-1)[:, None]
  distances = squared_distances(views, views)
  group = jnp.tile(group, pairs.shape[1])
  negative = group[:, None] != group[None, :]
  semi_hard = (
    negative & (distances > positive) & (distances < positive + margin)
  )
  any_semi_hard = semi_hard.any(axis=1, keepdims=True)
  candidates = jnp.where(any_semi_hard, semi_hard, negative)
  chosen = jnp.where(candidates, distances, jnp.inf).min(axis=1)
  loss = jnp.maximum(0.0, positive[:, 0] - chosen + margin)
  return jnp.where(negative.any(axis=1), loss, 0.0)


def recall_at_1(
  distances: Float[Array, 'B B'], group: Int[Array, ' B']
) -> Float[Array, ' B']:
  """Tells which queries (rows) are nearest to a key of their own group.

  A tie with a foreign key is no hit: embeddings that all coincide find
  nothing.
  """
  own = group[:, None] == group[None, :]
  nearest_own = jnp.where(own, distances, jnp.inf).min(axis=1)
  nearest_other = jnp.where(own, jnp.inf, distances).min(axis=1)
  return (nearest_own < nearest_other).astype(jnp.float32)
