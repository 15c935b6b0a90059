"""BERT as a text tower: word pieces [B, L] -> [B, embed_dim]."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Mask, TextIds
from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.einsum import parameter
from musiclm_jax.nn.transformer import Transformer

_EMBEDDING_INIT = nn.initializers.truncated_normal(0.02)


def _first(x: Array, mask: Mask) -> Array:
  del mask
  return x[:, 0]


def _mean(x: Array, mask: Mask) -> Array:
  kept = jnp.where(mask[..., None], x, 0.0)
  return kept.sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)[:, None]


# What stands for the whole text: BERT's first token, or the mean of all.
POOLINGS = {'cls': _first, 'mean': _mean}


class TextTower(nn.Module):
  """BERT-base uncased (Devlin et al. 2019) without its pooler.

  Attributes:
    vocab_size: Word pieces, V; id 0 is padding.
    max_length: Positions, the longest L.
    num_layers: Post-norm blocks.
    embed_dim: Width.
    num_heads: Of width embed_dim / num_heads each.
    mlp_dim: Inner width of the MLPs.
    dropout_rate: Of all dropout.
    pooling: Name in `POOLINGS`; `cls` is the paper's.
    dtype: Compute type; parameters are float32.
    remat: What the backward pass recomputes, see `nn.transformer.REMATS`.
    scan_unroll: Layers per iteration of the loop over layers.
  """

  vocab_size: int = 30522
  max_length: int = 512
  num_layers: int = 12
  embed_dim: int = 768
  num_heads: int = 12
  mlp_dim: int = 3072
  dropout_rate: float = 0.0
  pooling: str = 'cls'
  dtype: jnp.dtype | str = jnp.float32
  remat: str = 'none'
  scan_unroll: int = 1

  @property
  def features(self) -> int:
    """Width of the result, D."""
    return self.embed_dim

  @nn.compact
  def __call__(
    self, text_ids: TextIds, *, training: bool = False
  ) -> Float[Array, 'B D']:
    """Returns float32 features; padding (id 0) changes nothing.

    Raises:
      UsageError: If the text is longer than `max_length`, or the heads do
        not divide the width.
    """
    length = text_ids.shape[1]
    if length > self.max_length:
      raise UsageError(
        f'expected at most {self.max_length} word pieces, got {length}: cut '
        'the text or raise max_length'
      )

    if self.embed_dim % self.num_heads:
      raise UsageError(
        f'expected a width that {self.num_heads} heads divide, got '
        f'{self.embed_dim}: change --config.model.text.embed_dim or num_heads'
      )

    def table(name, rows, axis=None):
      shape = rows, self.embed_dim
      return parameter(self, name, _EMBEDDING_INIT, shape, (axis, 'embed'))

    x = (
      table('token', self.vocab_size, 'vocab')[text_ids]
      + table('position', self.max_length)[:length]
      + table('segment', 2)[0]  # one sentence
    )
    x = nn.LayerNorm(epsilon=1e-12, dtype=self.dtype, name='norm')(x)
    mask = text_ids != 0
    x, _ = Transformer(
      num_layers=self.num_layers,
      embed_dim=self.embed_dim,
      num_heads=self.num_heads,
      head_dim=self.embed_dim // self.num_heads,
      mlp_dim=self.mlp_dim,
      dropout_rate=self.dropout_rate,
      norm='layer',
      norm_first=False,
      norm_epsilon=1e-12,
      final_norm=False,
      use_bias=True,
      gated=False,
      activation='gelu',
      scale_logits=True,
      dtype=self.dtype,
      remat=self.remat,
      scan_unroll=self.scan_unroll,
      name='transformer',
    )(x, mask=mask, deterministic=not training)
    pool = look_up(POOLINGS, self.pooling, 'pooling')
    return pool(x.astype(jnp.float32), mask)
