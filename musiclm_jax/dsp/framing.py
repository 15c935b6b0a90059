"""Framing: waveform [..., S] -> overlapping frames [..., T, L]."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from musiclm_jax.contracts.errors import UsageError


def num_frames(num_samples: int, frame_length: int, hop_length: int) -> int:
  """Counts the whole frames of a signal: 1 + (S - L) // hop, 0 if too short."""
  return max(0, 1 + (num_samples - frame_length) // hop_length)


def frame(
  x: Float[Array, '... S'], frame_length: int, hop_length: int
) -> Float[Array, '... T L']:
  """Cuts a signal into overlapping frames, without any padding.

  Frame t holds samples t * hop_length ... t * hop_length + frame_length - 1;
  samples past the last whole frame are dropped. Frames are put together from
  slices of blocks of gcd(frame_length, hop_length) samples, because the
  gradient of a slice is a pad, where that of a gather is a scatter (slow on
  every backend).

  Args:
    x: Signal, at least one frame long.
    frame_length: Samples in a frame.
    hop_length: Samples from one frame to the next.

  Returns:
    Frames, T = 1 + (S - frame_length) // hop_length.

  Raises:
    UsageError: If the signal is shorter than one frame.
  """
  total = num_frames(x.shape[-1], frame_length, hop_length)
  if total == 0:
    raise UsageError(
      f'expected at least one frame of {frame_length} samples, got '
      f'{x.shape[-1]}: pad the signal first'
    )
  block = math.gcd(frame_length, hop_length)
  step, per_frame = hop_length // block, frame_length // block
  needed = (total - 1) * step + per_frame
  blocks = x[..., : needed * block].reshape(*x.shape[:-1], needed, block)
  slices = [
    blocks[..., first : first + (total - 1) * step + 1 : step, :]
    for first in range(per_frame)
  ]
  return jnp.concatenate(slices, axis=-1)


def centre_on_hops(
  x: Float[Array, 'B S'], frame_length: int, hop_length: int
) -> Float[Array, 'B S2']:
  """Pads with zeros: S / hop_length frames, each centred on its hop.

  Raises:
    UsageError: If a frame is shorter than a hop, so that samples were lost.
  """
  outside = frame_length - hop_length
  if outside < 0:
    raise UsageError(
      f'expected a frame of at least a hop, {hop_length} samples, got '
      f'{frame_length}: raise window_length or lower hop_length'
    )
  return jnp.pad(x, ((0, 0), (outside // 2, outside - outside // 2)))
