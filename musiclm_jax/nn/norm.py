"""Normalisation over the last axis: [..., D] -> [..., D]."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts.array_types import Embedding


class RMSNorm(nn.Module):
  """Divides by the root mean square and scales; no mean, no bias (T5).

  Attributes:
    epsilon: Added to the mean square.
    dtype: Of the result; statistics are float32.
  """

  epsilon: float = 1e-6
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns the normalised `x`, same shape."""
    scale = self.param('scale', nn.initializers.ones_init(), x.shape[-1:])
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(x * x, axis=-1, keepdims=True)
    return (x * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(
      self.dtype
    )


# Both are called as `NORMS[name](epsilon=…, dtype=…)`.
NORMS = {'rms': RMSNorm, 'layer': nn.LayerNorm}


def unit(x: Embedding) -> Embedding:
  """Scales each row to length 1, in float32; a row of zeros stays."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-12)
