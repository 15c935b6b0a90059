"""Windows of 10 s every second: waveform [B, S] -> mean embedding [B, D]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from musiclm_jax.contracts.array_types import Embedding, Waveform
from musiclm_jax.nn.norm import unit


def num_windows(samples: int, window: int, hop: int) -> int:
  """Counts the windows of a clip of at least one window."""
  return 1 + (samples - window) // hop


def repeat_to(waveform: Waveform, samples: int) -> Waveform:
  """Repeats a clip that is shorter than `samples` until it is that long.

  Zeros instead would make the embedding that of silence for the most part.

  Raises:
    ValueError: If the clip is empty.
  """
  length = waveform.shape[-1]
  if length == 0:
    raise ValueError('expected a waveform, came one of 0 samples')
  if length >= samples:
    return waveform
  return jnp.tile(waveform, (1, -(-samples // length)))[:, :samples]


def mean_over_windows(
  embed: Callable[[Waveform], Embedding],
  waveform: Waveform,
  *,
  window: int,
  hop: int,
) -> Embedding:
  """Averages the embeddings of all windows and scales to length 1 again.

  Windows are embedded one after another, so memory does not grow with the
  clip. What follows the last whole window, less than `hop` samples, is not
  heard.

  Args:
    embed: Unit embedding of one window for each row.
    waveform: Clips of one length, at least a window.
    window: In samples.
    hop: In samples (MusicLM §3.1: 10 s and 1 s).
  """
  count = num_windows(waveform.shape[-1], window, hop)
  if count == 1:
    return embed(waveform[:, :window])

  def at(start):
    return embed(jax.lax.dynamic_slice_in_dim(waveform, start, window, axis=1))

  return unit(jax.lax.map(at, hop * jnp.arange(count)).mean(axis=0))
