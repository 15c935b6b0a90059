"""Implementations of convolution, [B, ..., C] -> [B, ..., D]; all are exact.

XLA's native one is right for accelerators, but for dilations and groups on
NVIDIA's GPUs. Those that only CPUs need are in `nn.cpu.convolution`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class ConvWindow(NamedTuple):
  """How a kernel slides, one entry an axis: hashable, so it can be static.

  Attributes:
    strides: From output to output.
    padding: (before, after).
    dilation: From tap to tap.
  """

  strides: tuple[int, ...]
  padding: tuple[tuple[int, int], ...]
  dilation: tuple[int, ...]

  def is_point(self, taps: tuple[int, ...]) -> bool:
    """Tells whether every output reads one input, the first of its stride."""
    return max(taps) == 1 and not any(map(any, self.padding))


def convolve_native(
  x: Float[Array, 'B ... C'],
  kernel: Float[Array, '... G D'],
  window: ConvWindow,
  groups: int = 1,
) -> Float[Array, 'B ... D']:
  """Convolves with XLA's own operation."""
  return convolve_general(
    x, kernel, window.strides, window.padding, (), window.dilation, groups
  )


def convolve_side_by_side(
  x: Float[Array, 'B S C'],
  kernel: Float[Array, 'K C D'],
  window: ConvWindow,
) -> Float[Array, 'B T D']:
  """Convolves over time, the phases of a dilation as an axis of their own.

  [B, S, C] is [B, S / dilation, dilation, C] without moving anything, where
  the window has no dilation. XLA's code for NVIDIA's GPUs fills a dilated
  kernel with zeros, which multiplies the work by almost the dilation, and
  finds no kernel of cuDNN for its gradient.
  """
  # Sample t is row t // dilation of column t % dilation; tap k of output t is k
  # rows below it, in the same column.
  (dilation,), ((before, after),) = window.dilation, window.padding
  batch, length, channels = x.shape
  size = length + before + after - dilation * (len(kernel) - 1)
  rows = -(-size // dilation) + len(kernel) - 1
  x = jax.lax.pad(
    x,
    jnp.zeros((), x.dtype),
    ((0, 0, 0), (before, rows * dilation - length - before, 0), (0, 0, 0)),
  )
  y = convolve_native(
    x.reshape(batch, rows, dilation, channels),
    kernel[:, None],
    ConvWindow((1, 1), ((0, 0), (0, 0)), (1, 1)),
  )
  return y.reshape(batch, -1, y.shape[-1])[:, :size]


def convolve_grouped(
  x: Float[Array, 'B S C'],
  kernel: Float[Array, 'K G D'],
  window: ConvWindow,
  groups: int,
) -> Float[Array, 'B T D']:
  """Convolves over time, each group as two matmuls.

  Samples are cut into pieces as long as a window reaches past its first
  stride, so that all outputs that begin in a piece read it and the next one:
  y[n] = x[n] A + x[n + 1] B, where A and B hold the kernel once an output.
  Half of them is zeros, but nothing is unfolded. On CPU the gradient of XLA's
  grouped convolution takes 10 to 250 times as long, and unfolded windows 3 to
  10 times (groups of 4 channels, window 41, stride 4).
  """
  taps, fan_in, features = kernel.shape
  (stride,), (padding,), (dilation,) = window
  if dilation > 1:
    return convolve_native(x, kernel, window, groups)
  frames = (x.shape[1] + sum(padding) - taps) // stride + 1
  strides = -(-taps // stride)  # in a window
  pack = max(strides - 1, 1)  # outputs, and strides, of a piece
  pieces = -(-frames // pack) + 1
  after = pieces * pack * stride - padding[0] - x.shape[1]
  # Negative padding cuts off samples that no window reaches.
  x = jax.lax.pad(
    x, jnp.zeros((), x.dtype), ((0, 0, 0), (padding[0], after, 0), (0, 0, 0))
  )
  x = x.reshape(len(x), pieces, pack * stride, groups, fan_in)
  x = x.transpose(3, 0, 1, 2, 4).reshape(groups, len(x), pieces, -1)
  # [groups, B, pieces, samples and channels of a piece], and the kernel a
  # stride at a time, filled up to whole strides.
  kernel = jnp.pad(kernel, ((0, strides * stride - taps), (0, 0), (0, 0)))
  kernel = kernel.reshape(strides, stride * fan_in, groups, -1)
  # Output q of a piece reads stride q + tap of it and the next one.
  p, q, tap = np.ix_(np.arange(2 * pack), np.arange(pack), np.arange(strides))
  chosen = jnp.asarray(p == q + tap, kernel.dtype)
  band = jnp.einsum('pqt,tigo->gpiqo', chosen, kernel)
  band = band.reshape(groups, 2, x.shape[-1], -1)
  y = sum(
    jnp.einsum('gbni,gio->gbno', piece, half)
    for piece, half in (
      (x[:, :, :-1], band[:, 0]),
      (x[:, :, 1:], band[:, 1]),
    )
  )
  y = y.reshape(groups, y.shape[1], -1, features // groups)
  y = y[:, :, :frames].transpose(1, 2, 0, 3)
  return y.reshape(len(y), frames, features)


def convolve_general(
  x: Array,
  kernel: Array,
  strides: tuple[int, ...],
  padding: list[tuple[int, int]] | tuple[tuple[int, int], ...],
  spread: tuple[int, ...],
  dilation: tuple[int, ...],
  groups: int = 1,
) -> Array:
  """Convolves channels last.

  Args:
    x: [B, ..., C].
    kernel: [*window, C / groups, D].
    strides: From output to output, one number an axis.
    padding: (before, after) of each axis.
    spread: From input to input, with zeros between them; () is 1.
    dilation: From tap to tap.
    groups: Groups of channels that do not see each other.
  """
  spatial = 'THW'[: kernel.ndim - 2]
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    lhs_dilation=spread or None,
    rhs_dilation=dilation,
    dimension_numbers=(f'N{spatial}C', f'{spatial}IO', f'N{spatial}C'),
    feature_group_count=groups,
  )
