"""MuLan applied: waveform [B, S] or texts [B, L] -> unit vectors [B, 128].

Audio of any length is embedded in windows of 10 s every second, whose
embeddings are averaged (MusicLM §3.1).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from musiclm_jax.contracts.array_types import Embedding, TextIds, Waveform
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.dsp.framing import num_frames
from musiclm_jax.dsp.resample import resample_24k_to_16k
from musiclm_jax.mulan.model import TOWER_RATE, Mulan
from musiclm_jax.nn.embedding import unit
from musiclm_jax.nn.precision import exact

PLAYER = 'mulan'


@dataclasses.dataclass(frozen=True)
class MulanEmbedder:
  """Both towers, as pure functions of their weights.

  Attributes:
    model: The network.
    window_seconds: What the audio tower reads at once.
    window_hop_seconds: From window to window of a longer clip.
  """

  model: Mulan
  window_seconds: float = 10.0
  window_hop_seconds: float = 1.0

  @property
  def embed_dim(self) -> int:
    """Width of the common space, D."""
    return self.model.embed_dim

  @exact
  def embed_audio(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> Embedding:
    """Embeds clips of any length as unit vectors [B, 128].

    The mean over windows of 10 s every second, scaled to length 1 (MusicLM
    §3.1; 30 s are 21 windows). A clip shorter than a window is repeated.

    Args:
      params: By player.
      collections: By player.
      waveform: [B, S] at 24 kHz.
    """
    variables = variables_of(params, collections)
    shortest = round(self.window_seconds * SAMPLE_RATE)
    waveform = repeat_to(waveform, shortest)
    return mean_over_windows(
      lambda one: self.model.apply(variables, one, method='embed_window'),
      resample_24k_to_16k(waveform),
      window=round(self.window_seconds * TOWER_RATE),
      hop=round(self.window_hop_seconds * TOWER_RATE),
    )

  @exact
  def embed_text(
    self, params: Params, collections: Collections, text_ids: TextIds
  ) -> Embedding:
    """Embeds texts as unit vectors [B, 128]."""
    return self.model.apply(
      variables_of(params, collections), text_ids, method='embed_text'
    )


def variables_of(params: Params, collections: Collections) -> dict:
  """What the network's `apply` takes: parameters and running statistics."""
  return {'params': params[PLAYER], 'batch_stats': collections[PLAYER]}


def repeat_to(waveform: Waveform, samples: int) -> Waveform:
  """Repeats a clip that is shorter than `samples` until it is that long.

  Zeros instead would make the embedding that of silence for the most part.

  Raises:
    ValueError: If the clip is empty.
  """
  length = waveform.shape[-1]
  if length == 0:
    raise ValueError('expected a waveform, got one of 0 samples')
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
  embedded.

  Args:
    embed: Unit embedding of one window for each row.
    waveform: Clips of one length, at least a window.
    window: In samples.
    hop: In samples (MusicLM §3.1: 10 s and 1 s).
  """
  count = num_frames(waveform.shape[-1], window, hop)
  if count == 1:
    return embed(waveform[:, :window])

  def at(start):
    return embed(jax.lax.dynamic_slice_in_dim(waveform, start, window, axis=1))

  return unit(jax.lax.map(at, hop * jnp.arange(count)).mean(axis=0))
