"""Embeddings [B, D]: unit vectors, and how near those of a batch are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from musiclm_jax.contracts.array_types import Embedding


def unit(x: Embedding) -> Embedding:
  """Scales each row to length 1, in float32; a row of zeros stays."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)


def cosines(x: Embedding, y: Embedding) -> Float[Array, 'B B']:
  """Cosines of unit vectors, x_i with y_j at [i, j], in float32."""
  return jnp.matmul(
    x.astype(jnp.float32),
    y.astype(jnp.float32).T,
    precision=jax.lax.Precision.HIGHEST,
  )


def recall_at_1(
  scores: Float[Array, 'B B'],
  group: Int[Array, ' B'],
  true: Bool[Array, 'B B'] | None = None,
) -> Float[Array, ' B']:
  """Tells which queries (rows) rank one of their own group first.

  A tie with a foreign key is no hit: embeddings that all coincide find
  nothing.

  Args:
    scores: Of query i and key j at [i, j].
    group: Of query i and of key i alike.
    true: Keys that are as right for a query as those of its group.
  """
  own = group[:, None] == group[None, :]
  if true is not None:
    own = own | true
  best_own = jnp.where(own, scores, -jnp.inf).max(axis=1)
  best_other = jnp.where(own, -jnp.inf, scores).max(axis=1)
  return (best_own > best_other).astype(jnp.float32)
