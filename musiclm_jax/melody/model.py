"""The melody network: waveform [B, S] of 4 s -> unit vector [B, 192].

waveform -> log-mel [B, T, F], standardised by clip, or `Intervals`
-> one token a frame -> ViT [B, T, D] -> mean over each of P segments [B, P, D]
-> linear -> unit vector
"""

import math

import jax.numpy as jnp
from flax import linen as nn

from musiclm_jax.contracts.array_types import Embedding, Spectrogram, Waveform
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp import spectrogram
from musiclm_jax.dsp.framing import centre_on_hops
from musiclm_jax.melody.intervals import Intervals, salience, standardise
from musiclm_jax.nn.einsum import Einsum, parameter
from musiclm_jax.nn.norm import unit
from musiclm_jax.nn.transformer import Transformer

_EMBEDDING_INIT = nn.initializers.truncated_normal(0.02)


class MelodyViT(nn.Module):
  """A small ViT whose patches are single frames of all bands (App. C).

  The paper gives layers, heads, widths and the result's size; mel bands,
  pooling and norms are ours. Bands end at 4 kHz and windows are long, so that
  semitones of a melody's register fall into different bands.

  With mel bands a transposition must be learned away, which takes many tunes;
  `intervals` do not have it. Their bands are evenly spaced in pitch. The mean
  over a whole clip, which forgets what came when until a network learns to
  tell, is that over one segment.

  Attributes:
    num_layers: Pre-norm blocks.
    embed_dim: D.
    num_heads: H.
    head_dim: Of each head; 512 / 6 is no whole number, so H * head_dim is
      less than D at paper size.
    mlp_dim: Inner width of the MLPs.
    output_dim: Of the result.
    num_mels: Bands F of the spectrogram, whatever their spacing.
    window_length: Of the spectrogram, in samples at 24 kHz.
    hop_length: Of the spectrogram, in samples; 480 gives T = 200 in 4 s.
    fft_size: Of the spectrogram.
    low_hz: Lower end of the bands.
    high_hz: Upper end of the bands.
    intervals: What makes tokens of the bands; None hears log-mel frames, as
      the paper does.
    segments: P, equal parts of the clip.
    dropout_rate: Of all dropout.
    dtype: Compute type; parameters are float32.
    remat: What the backward pass recomputes, see `nn.transformer.REMATS`.
    scan_unroll: Layers per iteration of the loop over layers.
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
  intervals: Intervals | None = None
  segments: int = 1
  dropout_rate: float = 0.0
  dtype: jnp.dtype | str = jnp.float32
  remat: str = 'none'
  scan_unroll: int = 1

  @nn.compact
  def __call__(
    self, waveform: Waveform, *, training: bool = False
  ) -> Embedding:
    """Embeds one window a row, 24 kHz, all as long as at `init`.

    Raises:
      UsageError: If its frames do not make so many equal segments.
    """
    x = self.frames(waveform)
    batch, count, width = x.shape
    if count % self.segments:
      raise UsageError(
        f'{count} frames do not make {self.segments} equal segments: choose '
        'another config.model.segments or hop_length'
      )
    x = Einsum(
      'btf,fd->btd',
      (width, self.embed_dim),
      (None, 'embed'),
      use_bias=True,
      dtype=self.dtype,
      name='patch',
    )(x)
    position = parameter(
      self, 'position', _EMBEDDING_INIT, x.shape[1:], (None, 'embed')
    )
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
      scan_unroll=self.scan_unroll,
      name='transformer',
    )(x + position.astype(self.dtype), deterministic=not training)
    x = x.astype(jnp.float32).reshape(batch, self.segments, -1, self.embed_dim)
    x = Einsum(
      'bpd,pde->be',
      (self.segments, self.embed_dim, self.output_dim),
      (None, 'embed', None),
      num_inputs=2,
      use_bias=True,
      name='head',
    )(x.mean(axis=2))
    return unit(x)

  def frames(self, waveform: Waveform) -> Spectrogram:
    """Hears S / hop_length frames, each centred on its hop."""
    window = {
      'sample_rate': SAMPLE_RATE,
      'window_length': self.window_length,
      'hop_length': self.hop_length,
      'fft_size': self.fft_size,
      'low_hz': self.low_hz,
      'high_hz': self.high_hz,
    }
    if self.intervals:
      semitones = 12.0 * math.log2(self.high_hz / self.low_hz)
      return self.intervals(
        salience(waveform, num_bands=self.num_mels, **window),
        frame_rate=SAMPLE_RATE / self.hop_length,
        bands_per_semitone=(self.num_mels - 1) / semitones,
      )
    padded = centre_on_hops(waveform, self.window_length, self.hop_length)
    return standardise(
      spectrogram.log_mel(padded, num_mels=self.num_mels, **window)
    )
