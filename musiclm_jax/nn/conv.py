"""Convolutions, channels last: [B, T, C] and [B, T, F, C].

Parameters are `kernel` [*window, C_in / groups, C_out], `bias` and, with
weight normalisation, `scale` [C_out]; they name no logical axes, so they are
replicated. All run at precision HIGHEST: codec tokens must not depend on the
machine.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

Padding = str | Sequence[tuple[int, int]]

# Channels of a block on CPU: fewer waste the vector units.
_PACKED_CHANNELS = 32

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
  """Convolves over time and sees the past only: T -> T / stride frames.

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
  """Convolves; where XLA's CPU code is slow, in another way on CPU."""
  if isinstance(padding, str):
    reach = [
      d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[:-2], strict=True)
    ]
    padding = jax.lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)

  def native(x: Array, kernel: Array) -> Array:
    return _convolve_native(x, kernel, strides, padding, dilation, groups)

  def unfolded(x: Array, kernel: Array) -> Array:
    return _convolve_unfolded(
      x, kernel, strides[0], padding[0], dilation[0], groups
    )

  def packed(x: Array, kernel: Array) -> Array:
    return _convolve_packed(x, kernel, padding, pack)

  pack = _PACKED_CHANNELS // max(kernel.shape[-2:])
  pack = math.gcd(pack, x.shape[-2]) if pack else 1
  plain = max(strides) == max(dilation) == groups == 1
  if groups > 1 and len(strides) == 1:
    return jax.lax.platform_dependent(x, kernel, cpu=unfolded, default=native)
  if plain and pack >= 4:
    return jax.lax.platform_dependent(x, kernel, cpu=packed, default=native)
  return native(x, kernel)


def _convolve_native(
  x: Array,
  kernel: Array,
  strides: Sequence[int],
  padding: Sequence[tuple[int, int]],
  dilation: Sequence[int],
  groups: int,
) -> Array:
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


def _convolve_packed(
  x: Array, kernel: Array, padding: Sequence[tuple[int, int]], pack: int
) -> Array:
  """Convolves with `pack` neighbours of the last axis as channels.

  Exact: the kernel becomes a band matrix of kernels. With few channels it
  computes more and takes 3 to 10 times less (2 -> 4 channels, 7 x 7; 8 -> 1,
  7; 2 cores), because a vector unit wants at least 16 channels.
  """
  before, after = padding[-1]
  window, size = kernel.shape[-3], x.shape[-2]
  if before + after != window - 1:
    return _convolve_native(
      x, kernel, (1,) * len(padding), padding, (1,) * len(padding), 1
    )
  # Output pack * g + q reads input pack * g + q + tap - before, which is
  # neighbour p of block g + offset.
  first = -before // pack
  last = (pack - 1 + after) // pack
  offset, p, q, tap = np.ix_(
    np.arange(first, last + 1),
    np.arange(pack),
    np.arange(pack),
    np.arange(window),
  )
  chosen = (pack * offset + p == q + tap - before).astype(np.float32)
  band = jnp.einsum(
    'upqt,...tio->...upiqo',
    chosen.astype(kernel.dtype),
    kernel,
    precision=jax.lax.Precision.HIGHEST,
  )
  *outer, fan_in, features = kernel.shape
  band = band.reshape(
    *outer[:-1], last - first + 1, pack * fan_in, pack * features
  )
  blocks = x.reshape(*x.shape[:-2], size // pack, pack * fan_in)
  y = _convolve_native(
    blocks,
    band,
    (1,) * len(padding),
    (*padding[:-1], (-first, last)),
    (1,) * len(padding),
    1,
  )
  return y.reshape(*y.shape[:-2], size, features)


def _convolve_unfolded(
  x: Array,
  kernel: Array,
  stride: int,
  padding: tuple[int, int],
  dilation: int,
  groups: int,
) -> Array:
  """Convolves over time as one matmul of unfolded windows.

  The gradient of XLA's grouped convolution is 3 to 5 times slower on CPU
  (groups of 4 channels, window 41, stride 4, 2 cores).
  """
  window, fan_in, features = kernel.shape
  reach = dilation * (window - 1) + 1
  x = jnp.pad(x, ((0, 0), tuple(padding), (0, 0)))
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
