"""ResNet-50 on spectrograms: log-mel [B, T, F] -> [B, 32 * width]."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Spectrogram
from musiclm_jax.nn.conv import Conv
from musiclm_jax.nn.einsum import Einsum

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
