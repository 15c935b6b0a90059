"""Several ways to one convolution, [B, ..., C] -> [B, ..., D]; all are exact.

XLA's native one is right for accelerators. Its CPU code is slow in cases that
a codec lives on; the others avoid them. Times are CPU time, 2 cores.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Window(NamedTuple):
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
  window: Window,
  groups: int = 1,
) -> Float[Array, 'B ... D']:
  """Convolves with XLA's own operation."""
  return _convolve(
    x, kernel, window.strides, window.padding, (), window.dilation, groups
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_canonical(
  x: Float[Array, 'B ... C'], kernel: Float[Array, '... C D'], window: Window
) -> Float[Array, 'B ... D']:
  """Convolves so that the gradients are convolutions in channels-last form.

  XLA turns convolutions to the form that its fast CPU code knows in the main
  computation only. Inside of a `scan` or `cond` the gradients, which come
  with batch and channels swapped, run 5 to 40 times slower; so they are
  swapped here.
  """
  return convolve_native(x, kernel, window)


def _forward(
  x: Array, kernel: Array, window: Window
) -> tuple[Array, tuple[Array, Array]]:
  return convolve_native(x, kernel, window), (x, kernel)


def _backward(
  window: Window, residuals: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
  x, kernel = residuals
  strides, padding, dilation = window
  sizes, taps = x.shape[1:-1], kernel.shape[:-2]
  reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
  spread = [
    s * (m - 1) + 1 for s, m in zip(strides, dy.shape[1:-1], strict=True)
  ]
  before = [low for low, _ in padding]
  flipped = jnp.flip(kernel, range(len(taps))).swapaxes(-1, -2)
  to_x = [
    (r - b, n - m + b)
    for r, b, n, m in zip(reach, before, sizes, spread, strict=True)
  ]
  dx = _convolve(dy, flipped, (1,) * len(taps), to_x, strides, dilation)
  # Samples that no window reaches are cut: the fast code knows no negative
  # padding.
  to_kernel = [
    (b, r + m - n - b)
    for r, b, n, m in zip(reach, before, sizes, spread, strict=True)
  ]
  for axis, (_, after) in enumerate(to_kernel):
    if after < 0:
      x = jax.lax.slice_in_dim(x, 0, x.shape[axis + 1] + after, axis=axis + 1)
  to_kernel = [(low, max(after, 0)) for low, after in to_kernel]
  rows = jnp.moveaxis(x, -1, 0)
  rows = jnp.moveaxis(rows, 1, -1)
  dkernel = _convolve(
    rows, jnp.moveaxis(dy, 0, -2), dilation, to_kernel, (), strides
  )
  return dx, jnp.moveaxis(dkernel, 0, -2)


convolve_canonical.defvjp(_forward, _backward)


def convolve_packed(
  x: Float[Array, 'B ... C'],
  kernel: Float[Array, '... C D'],
  window: Window,
  pack: int,
) -> Float[Array, 'B ... D']:
  """Convolves with `pack` neighbours of the last axis as channels.

  The kernel becomes a band matrix of kernels. With few channels it computes
  more and takes 3 to 10 times less (2 -> 4 channels, 7 x 7; 8 -> 1, 7),
  because a vector unit wants at least 16 channels.

  Args:
    x: Of any size.
    kernel: Of any window.
    window: Without strides and dilation.
    pack: Neighbours that become channels.
  """
  before, after = window.padding[-1]
  *outer, taps, fan_in, features = kernel.shape
  size = x.shape[-2] + before + after - taps + 1
  if fill := -x.shape[-2] % pack:
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, fill), (0, 0)])
  # Output pack * g + q reads input pack * g + q + tap - before, which is
  # neighbour p of block g + offset.
  first, last = -before // pack, (pack + taps - 2 - before) // pack
  offset, p, q, tap = np.ix_(
    np.arange(first, last + 1),
    np.arange(pack),
    np.arange(pack),
    np.arange(taps),
  )
  chosen = jnp.asarray(pack * offset + p == q + tap - before, kernel.dtype)
  band = jnp.einsum('upqt,...tio->...upiqo', chosen, kernel)
  band = band.reshape(*outer, last - first + 1, pack * fan_in, pack * features)
  blocks = x.reshape(*x.shape[:-2], x.shape[-2] // pack, pack * fan_in)
  num_blocks = -(-size // pack)
  padding = (-first, num_blocks + last - blocks.shape[-2])
  y = convolve_canonical(
    blocks, band, window._replace(padding=(*window.padding[:-1], padding))
  )
  y = y.reshape(*y.shape[:-2], num_blocks * pack, features)
  return y[..., :size, :]


def convolve_phases(
  x: Float[Array, 'B S C'],
  kernel: Float[Array, 'K C D'],
  window: Window,
  pack: int,
) -> Float[Array, 'B T D']:
  """Convolves over time, each phase of a dilation as a row of its own.

  Without its dilation a kernel can be packed, which takes half the time
  (8 channels, 7 taps, dilation 9).
  """
  (dilation,), (padding,) = window.dilation, window.padding
  if dilation == 1:
    return convolve_packed(x, kernel, window, pack)
  batch, _, channels = x.shape
  x = jnp.pad(x, ((0, 0), padding, (0, 0)))
  size = x.shape[1] - dilation * (len(kernel) - 1)
  x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % dilation), (0, 0)))
  x = x.reshape(batch, -1, dilation, channels).swapaxes(1, 2)
  y = convolve_packed(
    x.reshape(batch * dilation, -1, channels),
    kernel,
    Window((1,), ((0, 0),), (1,)),
    pack,
  )
  y = y.reshape(batch, dilation, *y.shape[1:]).swapaxes(1, 2)
  return y.reshape(batch, -1, y.shape[-1])[:, :size]


def convolve_side_by_side(
  x: Float[Array, 'B S C'],
  kernel: Float[Array, 'K C D'],
  window: Window,
) -> Float[Array, 'B T D']:
  """Convolves over time, the phases of a dilation as an axis of their own.

  [B, S, C] is [B, S / dilation, dilation, C] without moving anything, where
  the window has no dilation. XLA's code for NVIDIA's GPUs fills a dilated
  kernel with zeros, which multiplies the work by almost the dilation, and
  finds no kernel of cuDNN for its gradient.
  """
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
    Window((1, 1), ((0, 0), (0, 0)), (1, 1)),
  )
  return y.reshape(batch, -1, y.shape[-1])[:, :size]


def convolve_grouped(
  x: Float[Array, 'B S C'],
  kernel: Float[Array, 'K G D'],
  window: Window,
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
  x = jax.lax.pad(
    x, jnp.zeros((), x.dtype), ((0, 0, 0), (padding[0], after, 0), (0, 0, 0))
  )
  x = x.reshape(len(x), pieces, pack * stride, groups, fan_in)
  x = x.transpose(3, 0, 1, 2, 4).reshape(groups, len(x), pieces, -1)
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


def _convolve(
  x: Array,
  kernel: Array,
  strides: tuple[int, ...],
  padding: list[tuple[int, int]] | tuple[tuple[int, int], ...],
  spread: tuple[int, ...],
  dilation: tuple[int, ...],
  groups: int = 1,
) -> Array:
  """Convolves channels last; `spread` puts zeros between inputs."""
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
