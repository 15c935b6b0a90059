"""Convolutions, channels last: [B, T, C] and [B, T, F, C].

Parameters are `kernel` [*window, C_in / groups, C_out], `bias` and, with
weight normalisation, `scale` [C_out]; they name no logical axes, so they are
replicated. All run at precision HIGHEST: codec tokens must not depend on the
machine.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

Padding = str | Sequence[tuple[int, int]]

# LeCun: keeps the variance of a signal that comes in with mean zero.
default_kernel_init = nn.initializers.variance_scaling(
  1.0, 'fan_in', 'truncated_normal'
)


class Conv(nn.Module):
  """Convolves over every axis between the first and the last.

  Attributes:
    features: Channels out.
    kernel_size: Window, one number an axis.
    strides: One number an axis, or () for ones.
    padding: `'SAME'`, `'VALID'` or (before, after) for each axis.
    dilation: One number an axis, or () for ones.
    groups: Groups of channels that do not see each other.
    use_bias: Whether a bias is added.
    weight_norm: Whether a kernel is a direction and a learned length per
      output channel (Salimans and Kingma 2016).
    kernel_init: Initializer of the kernel.
    dtype: Compute type; parameters are float32.
  """

  features: int
  kernel_size: tuple[int, ...]
  strides: tuple[int, ...] = ()
  padding: Padding = 'SAME'
  dilation: tuple[int, ...] = ()
  groups: int = 1
  use_bias: bool = True
  weight_norm: bool = False
  kernel_init: Callable = default_kernel_init
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B ... C']) -> Float[Array, 'B ... D']:
    """Returns the convolution, [B, ..., features]."""
    axes = len(self.kernel_size)
    if x.ndim != axes + 2 or x.shape[-1] % self.groups:
      raise ValueError(
        f'expected {axes + 2} axes and channels in {self.groups} groups, came '
        f'shape {x.shape}'
      )
    shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    if self.weight_norm:
      length = jnp.sqrt(jnp.sum(kernel**2, range(axes + 1)) + 1e-12)
      scale = self.param('scale', lambda _: length)
      kernel = kernel * (scale / length)
    x = x.astype(self.dtype)
    y = _convolve(
      x,
      kernel.astype(self.dtype),
      self.strides or (1,) * axes,
      self.padding,
      self.dilation or (1,) * axes,
      self.groups,
    )
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros_init(), (self.features,))
      y = y + bias.astype(self.dtype)
    return y


class CausalConv(nn.Module):
  """Convolves over time and sees the past only, [B, T, C] to [B, T / stride, D].

  All of the padding is on the left, dilation * (kernel_size - 1) + 1 - stride
  samples: output frame t ends with the last sample of its own stride.

  Attributes: as of `Conv`, numbers instead of tuples.
  """

  features: int
  kernel_size: int
  stride: int = 1
  dilation: int = 1
  groups: int = 1
  use_bias: bool = True
  kernel_init: Callable = default_kernel_init
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B T C']) -> Float[Array, 'B T2 D']:
    """Returns the convolution.

    Raises:
      ValueError: If T is no multiple of the stride, so that frames would be
        misaligned, or if the kernel is shorter than the stride.
    """
    padding = self.dilation * (self.kernel_size - 1) + 1 - self.stride
    if x.shape[1] % self.stride or padding < 0:
      raise ValueError(
        f'expected a length that is a multiple of the stride {self.stride}, '
        f'and a window that covers it, came length {x.shape[1]} and window '
        f'{self.kernel_size}: pad the signal'
      )
    shape = (self.kernel_size, x.shape[-1] // self.groups, self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    y = _convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      (self.stride,),
      [(padding, 0)],
      (self.dilation,),
      self.groups,
    )
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros_init(), (self.features,))
      y = y + bias.astype(self.dtype)
    return y


class CausalTransposedConv(nn.Module):
  """Raises the rate: [B, T, C] -> [B, T * stride, D], kernel 2 * stride.

  Input frame t reaches outputs t * stride ... (t + 2) * stride - 1; what
  would lie past T * stride is cut off. Written as one matmul to
  [B, T, 2, stride, D] and an overlap-add of the two halves, which is exact
  and whose gradient is many times faster on CPU than `lax.conv_transpose`'s.

  Attributes:
    features: Channels out.
    stride: Output samples an input frame.
    use_bias: Whether a bias is added.
    kernel_init: Initializer of the kernel [2 * stride, C, features].
    dtype: Compute type; parameters are float32.
  """

  features: int
  stride: int
  use_bias: bool = True
  kernel_init: Callable = nn.initializers.variance_scaling(
    # Two input frames meet in an output sample, not 2 * stride.
    0.5,
    'fan_in',
    'truncated_normal',
    batch_axis=0,
  )
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B T C']) -> Float[Array, 'B T2 D']:
    """Returns the transposed convolution."""
    batch, frames, channels = x.shape
    kernel = self.param(
      'kernel', self.kernel_init, (2 * self.stride, channels, self.features)
    )
    halves = kernel.reshape(2, self.stride, channels, self.features)
    y = jnp.einsum(
      'btc,hscd->bthsd',
      x.astype(self.dtype),
      halves.astype(self.dtype),
      precision=jax.lax.Precision.HIGHEST,
    )
    late = jnp.pad(y[:, :-1, 1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    y = (y[:, :, 0] + late).reshape(batch, frames * self.stride, self.features)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros_init(), (self.features,))
      y = y + bias.astype(self.dtype)
    return y


def _convolve(
  x: Array,
  kernel: Array,
  strides: tuple[int, ...],
  padding: Padding,
  dilation: tuple[int, ...],
  groups: int,
) -> Array:
  """Convolves; where XLA's CPU code is slow, by hand on that platform."""

  def native(x: Array, kernel: Array) -> Array:
    spatial = 'THW'[: len(strides)]
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      strides,
      padding,
      rhs_dilation=dilation,
      dimension_numbers=(f'N{spatial}C', f'{spatial}IO', f'N{spatial}C'),
      feature_group_count=groups,
      precision=jax.lax.Precision.HIGHEST,
    )

  one_channel = kernel.shape[-2] == 1 and groups == 1
  if len(strides) > 1 or (groups == 1 and not one_channel):
    return native(x, kernel)

  # With one channel in, the native gradient is 2 times slower on CPU; with
  # groups of 4 channels, 3 to 5 times (12,000 samples x 8, 2 cores).
  def by_matmul(x: Array, kernel: Array) -> Array:
    return _convolve_windows(
      x, kernel, strides[0], padding, dilation[0], groups
    )

  return jax.lax.platform_dependent(x, kernel, cpu=by_matmul, default=native)


def _convolve_windows(
  x: Array,
  kernel: Array,
  stride: int,
  padding: Padding,
  dilation: int,
  groups: int,
) -> Array:
  """Convolves over time as one matmul of unfolded windows."""
  window, fan_in, features = kernel.shape
  reach = dilation * (window - 1) + 1
  if isinstance(padding, str):
    padding = jax.lax.padtype_to_pads(
      (x.shape[1],), (reach,), (stride,), padding
    )
  x = jnp.pad(x, ((0, 0), tuple(padding[0]), (0, 0)))
  frames = (x.shape[1] - reach) // stride + 1
  last = (frames - 1) * stride + 1
  taps = [
    x[:, first : first + last : stride] for first in range(0, reach, dilation)
  ]
  windows = jnp.stack(taps, axis=2)
  windows = windows.reshape(len(x), frames, window, groups, fan_in)
  kernel = kernel.reshape(window, fan_in, groups, features // groups)
  y = jnp.einsum(
    'btkgi,kigo->btgo', windows, kernel, precision=jax.lax.Precision.HIGHEST
  )
  return y.reshape(len(x), frames, features)
