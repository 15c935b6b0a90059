"""Dropout of sequences: [..., T, D] -> [..., T, D], at a quarter of the bits.

`nn.Dropout` draws 32 random bits an element, and threefry makes 64 at a time
of which JAX keeps half: on an accelerator that is a large part of an
elementwise layer. Here 16 bits decide, and all of the 64 are used.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.random import threefry2x32_p
from jaxtyping import Array, Bool

from musiclm_jax.contracts.array_types import PRNGKey

_LEVELS = 2**16


class Dropout(nn.Module):
  """Zeroes elements at random and scales the others, so that means stay.

  Attributes:
    rate: Share of zeroed elements, in steps of 2**-16.
    deterministic: Whether it does nothing.
  """

  rate: float
  deterministic: bool

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns [..., T, D]."""
    if self.deterministic or not self.rate:
      return x
    dropped = round(self.rate * _LEVELS)
    kept = keep(self.make_rng('dropout'), dropped, x.shape)
    return jnp.where(kept, x * (_LEVELS / (_LEVELS - dropped)), 0)


def keep(
  key: PRNGKey, dropped: int, shape: tuple[int, ...]
) -> Bool[Array, '... T D']:
  """Draws which elements stay; the same ones however they are sharded.

  Args:
    key: Of threefry, as JAX's keys are by default.
    dropped: How many of 65,536 elements do not stay.
    shape: [..., T, D].
  """
  length = shape[-2]
  counted = (*shape[:-2], -(-length // 4), shape[-1])
  row = jax.lax.iota(jnp.uint32, math.prod(counted[:-1]))
  row = row.reshape(*counted[:-1], 1)
  column = jax.lax.iota(jnp.uint32, counted[-1])
  words = threefry2x32_p.bind(
    *jax.random.key_data(key),
    jnp.broadcast_to(row, counted),
    jnp.broadcast_to(column, counted),
  )
  # Else all of it would be computed again for each of the four.
  words = jax.lax.optimization_barrier(words)
  halves = [half for word in words for half in (word & 0xFFFF, word >> 16)]
  return jnp.concatenate(halves, axis=-2)[..., :length, :] >= dropped
