"""MuLan's towers: ResNet-50 or an AST for log-mels [B, T, F], BERT for texts.

log-mel [B, T, F] -> ResNet -> [B, 32 * width], or -> AST -> [B, embed_dim]
word pieces [B, L] -> TextTower -> [B, embed_dim]
"""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Mask, Spectrogram, TextIds
from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.framing import frame
from musiclm_jax.nn.conv import Conv
from musiclm_jax.nn.einsum import Einsum
from musiclm_jax.nn.transformer import Tower

_EXPANSION = 4
_KERNEL_INIT = nn.initializers.variance_scaling(
  2.0, 'fan_out', 'truncated_normal'
)


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 convolutions around a residual; version 1, post-activation.

  The stride is in the 3x3 convolution, as in torchvision's ResNet ("v1.5").
  The last BatchNorm's scale begins at 0, so that a block begins as the
  identity.

  Attributes:
    width: Channels inside; four times as many come out.
    stride: Over time and frequency.
    norm_decay: Of BatchNorm's running statistics.
    dtype: Compute type.
  """

  width: int
  stride: int
  norm_decay: float
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B T F C'], *, training: bool
  ) -> Float[Array, 'B T2 F2 D']:
    """Returns the block's output."""
    norm = functools.partial(
      _norm, training=training, decay=self.norm_decay, dtype=self.dtype
    )
    pointwise = functools.partial(_pointwise, dtype=self.dtype)
    features = _EXPANSION * self.width
    y = pointwise(self.width, x, name='narrow')
    y = nn.relu(norm(name='narrow_norm')(y))
    y = Conv(
      self.width,
      (3, 3),
      strides=(self.stride,) * 2,
      padding=((1, 1), (1, 1)),
      use_bias=False,
      kernel_init=_KERNEL_INIT,
      dtype=self.dtype,
      name='middle',
    )(y)
    y = nn.relu(norm(name='middle_norm')(y))
    y = pointwise(features, y, name='wide')
    y = norm(name='wide_norm', scale_init=nn.initializers.zeros_init())(y)
    if self.stride > 1 or x.shape[-1] != features:
      x = x[:, :: self.stride, :: self.stride]
      x = norm(name='shortcut_norm')(pointwise(features, x, name='shortcut'))
    return nn.relu(x + y)


class ResNet(nn.Module):
  """ResNet-50 (He et al. 2016) with one input channel and a mean over all.

  BatchNorm's statistics are those of the global batch in training; running
  statistics, the collection `batch_stats`, serve inference. Norms compute in
  float32.

  Attributes:
    width: Channels of the first stage, 64 in ResNet-50.
    stage_blocks: Bottlenecks of each stage; width doubles and both axes halve
      from stage to stage.
    norm_decay: Of running statistics.
    dtype: Compute type; parameters are float32.
  """

  width: int = 64
  stage_blocks: tuple[int, ...] = (3, 4, 6, 3)
  norm_decay: float = 0.9
  dtype: jnp.dtype | str = jnp.float32

  @property
  def features(self) -> int:
    """Width of the result, D."""
    return _EXPANSION * self.width * 2 ** (len(self.stage_blocks) - 1)

  @nn.compact
  def __call__(
    self, x: Spectrogram, *, training: bool = False
  ) -> Float[Array, 'B D']:
    """Returns float32 features, D = 4 * width * 2 ** (stages - 1)."""
    x = x[..., None].astype(self.dtype)
    x = Conv(
      self.width,
      (7, 7),
      strides=(2, 2),
      padding=((3, 3), (3, 3)),
      use_bias=False,
      kernel_init=_KERNEL_INIT,
      dtype=self.dtype,
      name='stem',
    )(x)
    x = _norm(
      name='stem_norm',
      training=training,
      decay=self.norm_decay,
      dtype=self.dtype,
    )(x)
    x = nn.max_pool(nn.relu(x), (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    for stage, blocks in enumerate(self.stage_blocks):
      for block in range(blocks):
        x = Bottleneck(
          self.width * 2**stage,
          stride=2 if stage and not block else 1,
          norm_decay=self.norm_decay,
          dtype=self.dtype,
          name=f'stage{stage}_block{block}',
        )(x, training=training)
    return x.astype(jnp.float32).mean(axis=(1, 2))


def _norm(*, training: bool, decay: float, dtype, **options) -> nn.BatchNorm:
  return nn.BatchNorm(
    use_running_average=not training,
    momentum=decay,
    epsilon=1e-5,
    dtype=dtype,
    **options,
  )


def _pointwise(
  features: int, x: Array, *, dtype: jnp.dtype | str, name: str
) -> Array:
  """A 1x1 convolution as the matmul that it is, which is faster on CPU."""
  return Einsum(
    'btfc,cd->btfd',
    (x.shape[-1], features),
    ('channels', 'channels'),
    kernel_init=_KERNEL_INIT,
    dtype=dtype,
    name=name,
  )(x)


class AST(Tower):
  """A ViT on overlapping patches, with DeiT's two extra tokens averaged.

  Patches are numbered as in the published model (Gong et al. 2021), frequency
  major: all times of the lowest band of patches come first. 1,000 frames of
  128 bands are 12 x 99 patches.

  Attributes are those of `Tower` and
    patch_size: Frames and bands under a patch.
    patch_stride: Frames and bands from patch to patch.
  """

  patch_size: int = 16
  patch_stride: int = 10

  @nn.compact
  def __call__(
    self, x: Spectrogram, *, training: bool = False
  ) -> Float[Array, 'B D']:
    """Returns the mean of both extra tokens after the last norm, float32.

    Raises:
      ValueError: If the spectrogram is smaller than a patch.
    """
    x = self._patches(x.astype(self.dtype))
    extra = self.table('extra_tokens', 2).astype(self.dtype)
    extra = jnp.broadcast_to(extra, (len(x), *extra.shape))
    x = jnp.concatenate([extra, x], axis=1)
    x = x + self.table('position', x.shape[1]).astype(self.dtype)
    x = self.transform(x, training=training, norm_epsilon=1e-12)
    return x[:, :2].mean(axis=1)

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


def _mean(x: Array, mask: Mask) -> Array:
  kept = jnp.where(mask[..., None], x, 0.0)
  return kept.sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)[:, None]


# What stands for the whole text: BERT's first token, or the mean of all.
POOLINGS = {'cls': lambda x, mask: x[:, 0], 'mean': _mean}


class TextTower(Tower):
  """BERT-base uncased (Devlin et al. 2019) without its pooler, post-norm.

  Attributes are those of `Tower` and
    vocab_size: Word pieces, V; id 0 is padding.
    max_length: Positions, the longest L.
    pooling: Name in `POOLINGS`; `cls` is the paper's.
  """

  vocab_size: int = 30522
  max_length: int = 512
  pooling: str = 'cls'

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
    x = (
      self.table('token', self.vocab_size, 'vocab')[text_ids]
      + self.table('position', self.max_length)[:length]
      + self.table('segment', 2)[0]  # one sentence
    )
    x = nn.LayerNorm(epsilon=1e-12, dtype=self.dtype, name='norm')(x)
    mask = text_ids != 0
    x = self.transform(
      x,
      training=training,
      mask=mask,
      norm_first=False,
      norm_epsilon=1e-12,
      final_norm=False,
    )
    return look_up(POOLINGS, self.pooling, 'pooling')(x, mask)
