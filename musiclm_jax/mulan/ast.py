"""Audio Spectrogram Transformer: log-mel [B, T, F] -> [B, embed_dim]."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Spectrogram
from musiclm_jax.dsp.framing import frame
from musiclm_jax.nn.einsum import Einsum, parameter
from musiclm_jax.nn.transformer import Transformer

_EMBEDDING_INIT = nn.initializers.truncated_normal(0.02)


class AST(nn.Module):
  """A ViT on overlapping patches, with DeiT's two extra tokens averaged.

  Patches are numbered as in the published model (Gong et al. 2021), frequency
  major: all times of the lowest band of patches come first. 1,000 frames of
  128 bands are 12 x 99 patches.

  Attributes:
    num_layers: Pre-norm blocks.
    embed_dim: Width.
    num_heads: Of width embed_dim / num_heads each.
    mlp_dim: Inner width of the MLPs.
    patch_size: Frames and bands under a patch.
    patch_stride: Frames and bands from patch to patch.
    dropout_rate: Of all dropout.
    dtype: Compute type; parameters are float32.
    remat: What the backward pass recomputes, see `nn.transformer.REMATS`.
    scan_unroll: Layers per iteration of the loop over layers.
  """

  num_layers: int = 12
  embed_dim: int = 768
  num_heads: int = 12
  mlp_dim: int = 3072
  patch_size: int = 16
  patch_stride: int = 10
  dropout_rate: float = 0.0
  dtype: jnp.dtype | str = jnp.float32
  remat: str = 'none'
  scan_unroll: int = 1

  @property
  def features(self) -> int:
    """Width of the result, D."""
    return self.embed_dim

  @nn.compact
  def __call__(
    self, x: Spectrogram, *, training: bool = False
  ) -> Float[Array, 'B D']:
    """Returns the mean of both extra tokens after the last norm, float32.

    Raises:
      ValueError: If the spectrogram is smaller than a patch.
    """
    x = self._patches(x.astype(self.dtype))
    extra = parameter(
      self,
      'extra_tokens',
      _EMBEDDING_INIT,
      (2, self.embed_dim),
      (None, 'embed'),
      self.dtype,
    )
    extra = jnp.broadcast_to(extra, (len(x), *extra.shape))
    x = jnp.concatenate([extra, x], axis=1)
    position = parameter(
      self, 'position', _EMBEDDING_INIT, x.shape[1:], (None, 'embed')
    )
    x, _ = Transformer(
      num_layers=self.num_layers,
      embed_dim=self.embed_dim,
      num_heads=self.num_heads,
      head_dim=self.embed_dim // self.num_heads,
      mlp_dim=self.mlp_dim,
      dropout_rate=self.dropout_rate,
      norm='layer',
      norm_epsilon=1e-12,
      use_bias=True,
      gated=False,
      activation='gelu',
      scale_logits=True,
      dtype=self.dtype,
      remat=self.remat,
      scan_unroll=self.scan_unroll,
      name='transformer',
    )(x + position.astype(self.dtype), deterministic=not training)
    return x[:, :2].astype(jnp.float32).mean(axis=1)

  def _patches(self, x: Spectrogram) -> Float[Array, 'B T D']:
    """Projects patches, frequency major."""
    size, stride = self.patch_size, self.patch_stride
    bands = frame(x, size, stride)  # [B, T, bands, size]
    patches = frame(jnp.moveaxis(bands, 1, 3), size, stride)
    # [B, band, size over frequency, time, size over time]
    x = Einsum(
      'bfptq,pqd->bftd',
      (size, size, self.embed_dim),
      (None, None, 'embed'),
      num_inputs=2,
      use_bias=True,
      dtype=self.dtype,
      name='patch',
    )(patches)
    return x.reshape(len(x), -1, self.embed_dim)
