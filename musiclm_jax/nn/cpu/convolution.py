"""Convolutions on CPU, [B, ..., C] -> [B, ..., D], all exact.

XLA's CPU code is slow in cases that a codec lives on; these avoid them. Times
are CPU time, 2 cores.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from musiclm_jax.nn.convolution import (
  ConvWindow,
  convolve_general,
  convolve_native,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_canonical(
  x: Float[Array, 'B ... C'],
  kernel: Float[Array, '... C D'],
  window: ConvWindow,
) -> Float[Array, 'B ... D']:
  """Convolves so that the gradients are convolutions in channels-last form.

  XLA turns convolutions to the form that its fast CPU code knows in the main
  computation only. Inside of a `scan` or `cond` the gradients, which come
  with batch and channels swapped, run 5 to 40 times slower; so they are
  swapped here.
  """
  return convolve_native(x, kernel, window)


def _forward(
  x: Array, kernel: Array, window: ConvWindow
) -> tuple[Array, tuple[Array, Array]]:
  return convolve_native(x, kernel, window), (x, kernel)


def _backward(
  window: ConvWindow, residuals: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
  x, kernel = residuals
  strides, padding, dilation = window
  sizes, taps = x.shape[1:-1], kernel.shape[:-2]
  reach = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
  spread = [
    s * (m - 1) + 1 for s, m in zip(strides, dy.shape[1:-1], strict=True)
  ]
  before = [low for low, _ in padding]
  # dx is dy, its samples a stride apart, convolved with the kernel turned
  # round. dkernel is x convolved with dy, its samples a stride apart, at steps
  # of the dilation.
  flipped = jnp.flip(kernel, range(len(taps))).swapaxes(-1, -2)
  to_x = [
    (r - b, n - m + b)
    for r, b, n, m in zip(reach, before, sizes, spread, strict=True)
  ]
  dx = convolve_general(dy, flipped, (1,) * len(taps), to_x, strides, dilation)
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
  # The batch is what is summed over, so it takes the channels' place.
  rows = jnp.moveaxis(x, -1, 0)
  rows = jnp.moveaxis(rows, 1, -1)
  dkernel = convolve_general(
    rows, jnp.moveaxis(dy, 0, -2), dilation, to_kernel, (), strides
  )
  return dx, jnp.moveaxis(dkernel, 0, -2)


convolve_canonical.defvjp(_forward, _backward)


def convolve_packed(
  x: Float[Array, 'B ... C'],
  kernel: Float[Array, '... C D'],
  window: ConvWindow,
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
  window: ConvWindow,
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
  # Samples that are a dilation apart become neighbours: [B, phase, time, C].
  x = x.reshape(batch, -1, dilation, channels).swapaxes(1, 2)
  y = convolve_packed(
    x.reshape(batch * dilation, -1, channels),
    kernel,
    ConvWindow((1,), ((0, 0),), (1,)),
    pack,
  )
  y = y.reshape(batch, dilation, *y.shape[1:]).swapaxes(1, 2)
  return y.reshape(batch, -1, y.shape[-1])[:, :size]
