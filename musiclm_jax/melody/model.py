"""The melody network: waveform [B, S] of 4 s -> unit vector [B, 192].

waveform -> log-mel [B, T, F], standardised by clip
-> one token a frame -> ViT [B, T, D] -> mean over time -> linear -> unit vector
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from musiclm_jax.contracts.array_types import Embedding, Spectrogram, Waveform
from musiclm_jax.dsp import spectrogram
from musiclm_jax.dsp.framing import centre_on_hops
from musiclm_jax.nn.einsum import Einsum
from musiclm_jax.nn.norm import unit
from musiclm_jax.nn.transformer import Transformer

SAMPLE_RATE = 24000
_EMBEDDING_INIT = nn.initializers.truncated_normal(0.02)


class MelodyViT(nn.Module):
  """A small ViT whose patches are single frames of all bands (App. C).

  The paper gives layers, heads, widths and the result's size; mel bands,
  pooling and norms are ours. Bands end at 4 kHz and windows are long, so that
  semitones of a melody's register fall into different bands.

  Attributes:
    num_layers: Pre-norm blocks.
    embed_dim: D.
    num_heads: H.
    head_dim: Of each head; 512 / 6 is no whole number, so H * head_dim is
      less than D at paper size.
    mlp_dim: Inner width of the MLPs.
    output_dim: Of the result.
    num_mels: F.
    window_length: Of the spectrogram, in samples at 24 kHz.
    hop_length: Of the spectrogram, in samples; 480 gives T = 200 in 4 s.
    fft_size: Of the spectrogram.
    low_hz: Lower end of the mel bands.
    high_hz: Upper end of the mel bands.
    dropout_rate: Of all dropout.
    dtype: Compute type; parameters are float32.
    remat: What the backward pass recomputes, see `nn.transformer.REMATS`.
  """

  num_layers: int = 12
  embed_dim: int = 512
  num_heads: int = 6
  head_dim: int = 64
  mlp_dim: int = 1024
  output_dim: int = 192
  num_mels: int = 128
  window_length: int = 2400
  hop_length: int = 480
  fft_size: int = 4096
  low_hz: float = 60.0
  high_hz: float = 4000.0
  dropout_rate: float = 0.0
  dtype: jnp.dtype | str = jnp.float32
  remat: str = 'none'

  @nn.compact
  def __call__(
    self, waveform: Waveform, *, training: bool = False
  ) -> Embedding:
    """Embeds one window a row, 24 kHz, all as long as at `init`."""
    x = standardise(self.log_mel(waveform))
    x = Einsum(
      'btf,fd->btd',
      (self.num_mels, self.embed_dim),
      (None, 'embed'),
      use_bias=True,
      dtype=self.dtype,
      name='patch',
    )(x)
    position = self.param('position', _EMBEDDING_INIT, x.shape[1:])
    x, _ = Transformer(
      num_layers=self.num_layers,
      embed_dim=self.embed_dim,
      num_heads=self.num_heads,
      head_dim=self.head_dim,
      mlp_dim=self.mlp_dim,
      dropout_rate=self.dropout_rate,
      norm='layer',
      use_bias=True,
      gated=False,
      activation='gelu',
      scale_logits=True,
      dtype=self.dtype,
      remat=self.remat,
      name='transformer',
    )(x + position.astype(self.dtype), deterministic=not training)
    x = Einsum(
      'bd,de->be',
      (self.embed_dim, self.output_dim),
      ('embed', None),
      use_bias=True,
      name='head',
    )(x.astype(jnp.float32).mean(axis=1))
    return unit(x)

  def log_mel(self, waveform: Waveform) -> Spectrogram:
    """Computes S / hop_length frames, each centred on its hop."""
    return spectrogram.log_mel(
      centre_on_hops(waveform, self.window_length, self.hop_length),
      sample_rate=SAMPLE_RATE,
      window_length=self.window_length,
      hop_length=self.hop_length,
      fft_size=self.fft_size,
      num_mels=self.num_mels,
      low_hz=self.low_hz,
      high_hz=self.high_hz,
    )


def standardise(x: Spectrogram) -> Spectrogram:
  """Takes each band's mean over the clip away, then gives the clip variance 1.

  So an embedding does not depend on the level of a recording, nor on what
  stays the same throughout it: the room, the equaliser and most of a timbre.
  What moves is left, and a melody moves. All of it is measured on the clip
  alone: statistics of a batch would tie the two takes of a tune, which come in
  one batch, to each other, and would differ in use.
  """
  x = x - x.mean(axis=1, keepdims=True)
  variance = jnp.square(x).mean(axis=(1, 2), keepdims=True)
  return x * jax.lax.rsqrt(variance + 1e-3)  # silence stays silent
