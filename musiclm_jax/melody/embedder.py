"""The melody network applied: waveform [B, S] -> unit vectors [B, N, 192]."""

import dataclasses
import functools

import jax
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Waveform
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.dsp.framing import frame, num_frames
from musiclm_jax.melody.model import SAMPLE_RATE, MelodyViT
from musiclm_jax.nn.precision import exact

PLAYER = 'melody'
# Of a longer clip so many go through the network at a time, one minute.
_WINDOWS_AT_ONCE = 20


@dataclasses.dataclass(frozen=True)
class MelodyEmbedder:
  """Embeds windows of clips, as a pure function of its weights.

  Attributes:
    model: The network.
    window_seconds: What it reads at once.
    window_hop_seconds: From window to window of a longer clip.
  """

  model: MelodyViT
  window_seconds: float = 4.0
  window_hop_seconds: float = 3.0

  @property
  def embed_dim(self) -> int:
    """Width of an embedding."""
    return self.model.output_dim

  @property
  def window_samples(self) -> int:
    """Samples of a window."""
    return round(self.window_seconds * SAMPLE_RATE)

  @classmethod
  def num_windows(cls, samples: int) -> int:
    """Counts the windows of a clip where nothing else is said of them."""
    seconds = cls.window_seconds, cls.window_hop_seconds
    window, hop = (round(one * SAMPLE_RATE) for one in seconds)
    return num_frames(samples, window, hop)

  @exact
  def embed_audio(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> Float[Array, 'B N D']:
    """Embeds each window of clips as unit vectors [B, N, 192].

    Windows of 4 s every 3 s (App. C): N = 1 + (S - 4 s) // 3 s, which is 3 in
    10 s. What follows the last whole window is not embedded. Clips of more
    than a minute are embedded in parts, so memory does not grow with them.

    Args:
      params: By player.
      collections: By player.
      waveform: [B, S] at 24 kHz.

    Raises:
      UsageError: If the clips are shorter than a window.
    """
    del collections
    window = self.window_samples
    hop = round(self.window_hop_seconds * SAMPLE_RATE)
    if waveform.shape[-1] < window:
      raise UsageError(
        f'a melody embedding needs {self.window_seconds} s, got '
        f'{waveform.shape[-1] / SAMPLE_RATE} s: give longer clips'
      )
    windows = frame(waveform, window, hop)
    rows = windows.reshape(-1, window)
    embed = functools.partial(self.model.apply, {'params': params[PLAYER]})
    if windows.shape[1] <= _WINDOWS_AT_ONCE:
      embedding = embed(rows)
    else:
      embedding = jax.lax.map(
        lambda one: embed(one[None])[0], rows, batch_size=_WINDOWS_AT_ONCE
      )
    return embedding.reshape(*windows.shape[:2], -1)
