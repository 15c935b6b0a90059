"""Convolutions, channels last: [B, T, C] and [B, T, F, C].

The causal ones also take a signal chunk by chunk: what they still need of the
past goes in and comes out beside the signal, an array [B, n, C] that no
caller looks into. None is the past of a signal that begins here, zeros.

Parameters are `kernel` [*window, C_in / groups, C_out] and, of `Conv`, `bias`
and, with weight normalisation, `scale` [C_out]; a kernel's channels may lie
over devices, the others are small. Products have the precision that is set
around them, see `nn.precision`.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.convolution import (
  ConvWindow,
  convolve_grouped,
  convolve_native,
  convolve_side_by_side,
)
from musiclm_jax.nn.cpu.convolution import (
  convolve_canonical,
  convolve_packed,
  convolve_phases,
)
from musiclm_jax.nn.einsum import parameter

Padding = str | Sequence[tuple[int, int]]
Past = Float[Array, 'B N C']  # of a causal layer, see above

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
  groups: int = 1
  use_bias: bool = True
  weight_norm: bool = False
  kernel_init: Callable = default_kernel_init
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B ... C']) -> Float[Array, 'B ... D']:
    """Returns the convolution, [B, ..., features]."""
    axes = len(self.kernel_size)
    uneven = x.shape[-1] % self.groups or self.features % self.groups
    if x.ndim != axes + 2 or uneven:
      raise UsageError(
        f'expected {axes + 2} axes and channels in {self.groups} groups, got '
        f'shape {x.shape} and {self.features} channels out'
      )
    shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
    kernel = _kernel(self, shape)
    if self.weight_norm:
      length = jnp.sqrt(jnp.sum(kernel**2, range(axes + 1)) + 1e-12)
      scale = self.param('scale', lambda _: length)
      kernel = kernel * (scale / length)
    y = _convolve(
      x.astype(self.dtype),
      kernel.astype(self.dtype),
      self.strides or (1,) * axes,
      self.padding,
      (1,) * axes,
      self.groups,
    )
    if not self.use_bias:
      return y
    zeros = nn.initializers.zeros_init()
    bias = self.param('bias', zeros, (self.features,))
    return y + bias.astype(self.dtype)


class CausalConv(nn.Module):
  """Convolves over time and sees the past only: T -> T / stride frames.

  All of the padding is on the left, dilation * (kernel_size - 1) + 1 - stride
  samples: output frame t ends with the last sample of its own stride.

  The past is the last samples of the input, as many as the padding. No bias.

  Attributes: as of `Conv`, numbers instead of tuples; `dilation` is the way
    from tap to tap.
  """

  features: int
  kernel_size: int
  stride: int = 1
  dilation: int = 1
  kernel_init: Callable = default_kernel_init
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B T C'], past: Past | None = None
  ) -> tuple[Float[Array, 'B T2 D'], Past]:
    """Returns the convolution and the past of what follows.

    Raises:
      UsageError: If T is no multiple of the stride, so that frames would be
        misaligned, or if the kernel is shorter than the stride.
    """
    padding = self.dilation * (self.kernel_size - 1) + 1 - self.stride
    if x.shape[1] % self.stride or padding < 0:
      raise UsageError(
        f'expected a length that is a multiple of the stride {self.stride}, '
        f'and a window that covers it, got length {x.shape[1]} and window '
        f'{self.kernel_size}: pad the signal'
      )
    kernel = _kernel(self, (self.kernel_size, x.shape[-1], self.features))
    return _convolve_causally(
      x, kernel.astype(self.dtype), past, self.stride, self.dilation
    )


class CausalTransposedConv(nn.Module):
  """Raises the rate: [B, T, C] -> [B, T * stride, D], kernel 2 * stride.

  Input frame t reaches outputs t * stride ... (t + 2) * stride - 1; what
  would lie past T * stride is cut off. So a stride of outputs comes from its
  own input frame and the one before: it is a causal convolution of window 2
  with stride * D channels out, which is exact and whose gradient is many
  times faster on CPU than `lax.conv_transpose`'s. The past is the last input
  frame. No bias.

  Attributes:
    features: Channels out.
    stride: Output samples an input frame.
    kernel_init: Initializer of the kernel [2 * stride, C, features].
    dtype: Compute type; parameters are float32.
  """

  features: int
  stride: int
  kernel_init: Callable = nn.initializers.variance_scaling(
    # Two input frames meet in an output sample, not 2 * stride.
    0.5,
    'fan_in',
    'truncated_normal',
    batch_axis=0,
  )
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B T C'], past: Past | None = None
  ) -> tuple[Float[Array, 'B T2 D'], Past]:
    """Returns the transposed convolution and the past of what follows."""
    batch, frames, channels = x.shape
    kernel = _kernel(self, (2 * self.stride, channels, self.features))
    # The half that comes late is the tap of the frame before.
    halves = kernel.reshape(2, self.stride, channels, self.features)[::-1]
    taps = halves.swapaxes(1, 2).reshape(2, channels, -1)
    y, past = _convolve_causally(x, taps.astype(self.dtype), past)
    return y.reshape(batch, frames * self.stride, self.features), past


def _kernel(layer: nn.Module, shape: tuple[int, ...]) -> Array:
  """A layer's kernel, [*window, C, D] in float32."""
  axes = (*(None for _ in shape[:-2]), 'channels', 'channels')
  return parameter(layer, 'kernel', layer.kernel_init, shape, axes)


def _convolve_causally(
  x: Float[Array, 'B T C'],
  kernel: Float[Array, 'K C D'],
  past: Past | None,
  stride: int = 1,
  dilation: int = 1,
) -> tuple[Float[Array, 'B T2 D'], Past]:
  """Convolves after `past`; returns the past of what follows, too."""
  padding = dilation * (len(kernel) - 1) + 1 - stride
  x = x.astype(kernel.dtype)
  if past is not None:
    x = jnp.concatenate([past, x], axis=1)
  before = padding if past is None else 0
  y = _convolve(x, kernel, (stride,), [(before, 0)], (dilation,), 1)
  if past is None:
    x = jnp.pad(x, ((0, 0), (padding, 0), (0, 0)))
  return y, x[:, x.shape[1] - padding :]


def _convolve(
  x: Array,
  kernel: Array,
  strides: tuple[int, ...],
  padding: Padding,
  dilation: tuple[int, ...],
  groups: int,
) -> Array:
  """Convolves; where XLA's code for a platform is slow, in another way."""
  if isinstance(padding, str):
    reach = [
      d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[:-2], strict=True)
    ]
    padding = jax.lax.padtype_to_pads(x.shape[1:-1], reach, strides, padding)
  window = ConvWindow(
    tuple(strides), tuple(map(tuple, padding)), tuple(dilation)
  )
  if window.is_point(kernel.shape[:-2]) and groups == 1:
    x = x[:, *(slice(None, None, stride) for stride in strides)]
    return jnp.matmul(x, kernel[(0,) * len(strides)])
  pack = _PACKED_CHANNELS // max(kernel.shape[-2:])
  if groups > 1:
    on_cpu = convolve_grouped if len(strides) == 1 else convolve_native
    on_cpu = functools.partial(on_cpu, groups=groups)
  elif pack >= 2 and max(strides) == 1 and len(strides) == 1:
    on_cpu = functools.partial(convolve_phases, pack=pack)
  elif pack >= 2 and max(strides) == max(dilation) == 1:
    on_cpu = functools.partial(convolve_packed, pack=pack)
  else:
    on_cpu = convolve_canonical
  native = functools.partial(convolve_native, groups=groups)
  ways = {'cpu': on_cpu, 'cuda': native, 'default': native}
  if groups > 1 and len(strides) == 1:
    ways['cuda'] = on_cpu
  elif len(strides) == max(strides) == 1 < max(dilation):
    ways['cuda'] = convolve_side_by_side
  return jax.lax.platform_dependent(
    x,
    kernel,
    **{
      platform: functools.partial(way, window=window)
      for platform, way in ways.items()
    },
  )
