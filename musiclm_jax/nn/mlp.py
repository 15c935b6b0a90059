"""The feed-forward half of a Transformer block: [B, T, D] -> [B, T, D]."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.nn.dropout import Dropout
from musiclm_jax.nn.einsum import Einsum

ACTIVATIONS = {
  'gelu_tanh': functools.partial(nn.gelu, approximate=True),
  'gelu': functools.partial(nn.gelu, approximate=False),
}


class MLP(nn.Module):
  """Maps each position by itself: D -> mlp_dim -> D.

  Attributes:
    mlp_dim: Inner width.
    gated: Whether a second, linear projection multiplies the activation.
    activation: Name in `ACTIVATIONS`.
    use_bias: Whether projections have biases.
    dropout_rate: Inside, after the activation.
    dtype: Compute type.
  """

  mlp_dim: int
  gated: bool = True
  activation: str = 'gelu_tanh'
  use_bias: bool = False
  dropout_rate: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
    """Returns [B, T, D]."""
    dim = x.shape[-1]
    widen = functools.partial(
      Einsum,
      'btd,df->btf',
      (dim, self.mlp_dim),
      ('embed', 'mlp'),
      use_bias=self.use_bias,
      dtype=self.dtype,
    )
    y = ACTIVATIONS[self.activation](widen(name='wide')(x))
    if self.gated:
      y = y * widen(name='gate')(x)
    y = Dropout(self.dropout_rate, deterministic=deterministic)(y)
    return Einsum(
      'btf,fd->btd',
      (self.mlp_dim, dim),
      ('mlp', 'embed'),
      use_bias=self.use_bias,
      dtype=self.dtype,
      name='narrow',
    )(y)
