"""The contrastive loss of MuLan: unit embeddings [B, D] twice -> loss [B]."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Embedding
from musiclm_jax.contracts.errors import UsageError

_NEVER = -1e9  # a finite minus infinity: rows without negatives stay finite


def similarities(audio: Embedding, text: Embedding) -> Float[Array, 'B B']:
  """Cosines of unit vectors, audio i with text j at [i, j], in float32."""
  return jnp.matmul(
    audio.astype(jnp.float32),
    text.astype(jnp.float32).T,
    precision=jax.lax.Precision.HIGHEST,
  )


def contrastive_loss(
  cosines: Float[Array, 'B B'],
  group: Int[Array, ' B'],
  temperature: Float[Array, ''],
) -> tuple[Float[Array, ' B'], Int[Array, ' B']]:
  """Decoupled contrastive loss with one denominator for both directions.

    L_i = -log( h_ii / sum_{j != i} (h_ij + h_ji) ),  h = exp(cosine / tau)

  (MuLan §3.2, in the form of contrastive multiview coding; positives are not
  in the denominator.) Pairs of one group are described alike, so they are not
  negatives of each other.

  Args:
    cosines: Of the global batch, audio i with text j at [i, j].
    group: Equal for pairs with equal attributes.
    temperature: tau.

  Returns:
    Loss of each pair, 0 where it has no negative; and the number of terms in
    its denominator, 2 (B - 1) where no two groups are equal. A model that
    knows nothing has the loss ln(terms).
  """
  logits = cosines / temperature
  negative = group[:, None] != group[None, :]
  negative = jnp.concatenate([negative, negative], axis=1)
  terms = negative.sum(axis=1)
  both_ways = jnp.concatenate([logits, logits.T], axis=1)
  denominator = jax.nn.logsumexp(jnp.where(negative, both_ways, _NEVER), axis=1)
  loss = denominator - jnp.diagonal(logits)
  return jnp.where(terms > 0, loss, 0.0), terms


def mean_over_pairs(
  loss: Float[Array, ' B'], terms: Int[Array, ' B']
) -> Float[Array, '']:
  """Averages a loss over the pairs that have a negative."""
  counted = terms > 0
  return jnp.where(counted, loss, 0.0).sum() / jnp.maximum(counted.sum(), 1)


def recall_at_1(
  scores: Float[Array, 'B B'], group: Int[Array, ' B']
) -> Float[Array, ' B']:
  """Tells which queries (rows) rank one of their own group first.

  A tie with a foreign key is no hit: embeddings that all coincide find
  nothing.
  """
  own = group[:, None] == group[None, :]
  best_own = jnp.where(own, scores, -jnp.inf).max(axis=1)
  best_other = jnp.where(own, -jnp.inf, scores).max(axis=1)
  return (best_own > best_other).astype(jnp.float32)


def bounded_temperature(
  x: Float[Array, ''], low: float, high: float
) -> Float[Array, '']:
  """Maps a free parameter to a temperature between two bounds.

  The logarithm moves along a sigmoid: a hard clip would have no gradient
  beyond a bound, and a temperature that once crosses it would never return.
  """
  return low * (high / low) ** jax.nn.sigmoid(x)


def free_temperature(temperature: float, low: float, high: float) -> float:
  """Undoes `bounded_temperature`.

  Raises:
    UsageError: If the temperature is not between the bounds.
  """
  if not 0 < low < temperature < high:
    raise UsageError(
      f'expected 0 < {low} < temperature < {high}, got {temperature}'
    )
  share = math.log(temperature / low) / math.log(high / low)
  return math.log(share / (1.0 - share))
