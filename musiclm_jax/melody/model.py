"""The melody network: waveform [B, S] of 4 s -> unit vector [B, 192].

waveform -> log-mel [B, T, F], standardised by clip, or `Intervals`, or
  `pitch_classes`
-> one token a frame -> ViT [B, T, D] -> mean over each of P segments [B, P, D]
-> linear -> unit vector

Intervals are what does not change when a melody is transposed:

STFT -> bands evenly spaced in pitch [B, T, F] -> what stands out of the clip
-> each frame compared with earlier ones at all transpositions [B, T, I]

On this axis a transposition moves all frames alike, and a comparison of two of
them does not see it. Pitch against pitch after pitch is the intervalgram of
Walters, Ross & Lyon 2012.

Pitch classes are what stays when a melody is moved by octaves, and its key
with it: what music is to follow note by note.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Embedding, Spectrogram, Waveform
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp import spectrogram
from musiclm_jax.dsp.framing import centre_on_hops
from musiclm_jax.nn.einsum import Einsum
from musiclm_jax.nn.embedding import unit
from musiclm_jax.nn.transformer import Tower

_FLOOR = 0.03  # 30 dB below the loudest band of a clip
_OCTAVE = 24  # bands of it that are folded: two a semitone


@dataclasses.dataclass(frozen=True)
class Intervals:
  """Which frames are compared, and how far apart in pitch.

  Attributes:
    lag_seconds: From an earlier frame to the one it is compared with, rounded
      to whole hops.
    reach_semitones: Largest interval, up and down.
  """

  lag_seconds: tuple[float, ...] = (0.16, 0.4, 0.8)
  reach_semitones: float = 16.0

  def __call__(
    self, frames: Spectrogram, *, frame_rate: float, bands_per_semitone: float
  ) -> Spectrogram:
    """Compares frames with earlier ones.

    Args:
      frames: Of `salience`.
      frame_rate: In Hz.
      bands_per_semitone: Of the frames.

    Returns:
      For each lag the intervals from -R to R bands, of variance 1 over a clip.
    """
    reach = round(self.reach_semitones * bands_per_semitone)
    lags = [round(seconds * frame_rate) for seconds in self.lag_seconds]
    return standardise(
      jnp.concatenate([compare(frames, lag, reach) for lag in lags], axis=-1)
    )


def salience(
  waveform: Waveform, *, window_length: int, hop_length: int, **bands: Any
) -> Spectrogram:
  """Keeps of each frame what is louder than its band's mean over the clip.

  In logarithms, of clips at any level; a frame has norm 1 at most, and less
  where little stands out.

  Args:
    waveform: Clips.
    window_length: Of the spectrogram, in samples.
    hop_length: Of the spectrogram, in samples.
    **bands: `fft_size` and the other arguments of `pitch_filterbank`.

  Returns:
    S / hop_length frames, each centred on its hop.
  """
  x = _log_bands(waveform, window_length, hop_length, **bands)
  return _below_1(jnp.maximum(standardise(x), 0.0))


def pitch_classes(
  waveform: Waveform, *, window_length: int, hop_length: int, **bands: Any
) -> Spectrogram:
  """Folds octaves of what is louder in a frame than its mean over the bands.

  A note that is held through the whole clip stays.

  Args:
    waveform: Clips.
    window_length: Of the spectrogram, in samples.
    hop_length: Of the spectrogram, in samples.
    **bands: As of `salience`, 24 bands an octave.

  Returns:
    S / hop_length frames of 24 bands, the first at `low_hz` and its octaves.
  """
  x = _log_bands(waveform, window_length, hop_length, **bands)
  x = jnp.maximum(x - x.mean(axis=-1, keepdims=True), 0.0)
  beyond = -x.shape[-1] % _OCTAVE
  x = jnp.pad(x, ((0, 0), (0, 0), (0, beyond)))
  return _below_1(x.reshape(*x.shape[:2], -1, _OCTAVE).sum(axis=2))


def _log_bands(
  waveform: Waveform, window_length: int, hop_length: int, **bands: Any
) -> Spectrogram:
  """Logarithms of bands in pitch, of clips at any level."""
  x = spectrogram.magnitudes(
    centre_on_hops(waveform, window_length, hop_length),
    spectrogram.pitch_filterbank,
    window_length=window_length,
    hop_length=hop_length,
    **bands,
  )
  loudest = x.max(axis=(1, 2), keepdims=True)
  return jnp.log(jnp.maximum(x / jnp.maximum(loudest, 1e-9), _FLOOR))


def _below_1(x: Spectrogram) -> Spectrogram:
  """Gives frames norm 1 at most, and less where little stands out."""
  squares = jnp.square(x).sum(axis=-1, keepdims=True)
  return x / (1.0 + jnp.sqrt(squares + 1e-9))


def compare(frames: Spectrogram, lag: int, reach: int) -> Float[Array, 'B T I']:
  """Correlates frames with earlier ones along the bands.

    c[t, reach + k] = sum_f x[t, f + k] x[t - lag, f],  -reach <= k <= reach

  Args:
    frames: x; before the first one is silence.
    lag: In frames.
    reach: In bands.
  """
  count, width = frames.shape[1:]
  earlier = jnp.pad(frames, ((0, 0), (lag, 0), (0, 0)))[:, :count]
  size = width + reach  # nothing within reach comes round
  found = jnp.fft.irfft(
    jnp.fft.rfft(frames, size) * jnp.fft.rfft(earlier, size).conj(), size
  )
  return jnp.roll(found, reach, axis=-1)[..., : 2 * reach + 1]


def standardise(x: Spectrogram) -> Spectrogram:
  """Takes each band's mean over the clip away, then gives the clip variance 1.

  So an embedding does not depend on the level of a recording, nor on what
  stays the same throughout it: the room, the equaliser and most of a timbre.
  What moves is left, and a melody moves. All of it is measured on the clip
  alone: statistics of a batch would tie the two takes of a melody, which come
  in one batch, to each other, and would differ in use.
  """
  x = x - x.mean(axis=1, keepdims=True)
  variance = jnp.square(x).mean(axis=(1, 2), keepdims=True)
  return x * jax.lax.rsqrt(variance + 1e-3)  # silence stays silent


class MelodyViT(Tower):
  """A small ViT whose patches are single frames of all bands (App. C).

  The paper gives layers, heads, widths and the result's size; mel bands,
  pooling and norms are ours. Bands end at 4 kHz and windows are long, so that
  semitones of a melody's register fall into different bands.

  With mel bands a transposition must be learned away, which takes many
  melodies; with `intervals` there is none to learn, and bands are evenly spaced
  in pitch. The mean over a whole clip, which forgets the order of what happens
  until a network learns to tell, is that over one segment.

  Attributes are those of `Tower` and
    head_dim: Of each head; 512 / 6 is no whole number, so H * head_dim is
      less than D at paper size.
    output_dim: Of the result.
    num_mels: Bands F of the spectrogram, whatever their spacing.
    window_length: Of the spectrogram, in samples at 24 kHz.
    hop_length: Of the spectrogram, in samples; 480 gives T = 200 in 4 s.
    fft_size: Of the spectrogram.
    low_hz: Lower end of the bands.
    high_hz: Upper end of the bands.
    intervals: What makes tokens of the bands; None reads log-mel frames, as
      the paper does.
    pitch_classes: Whether frames of `pitch_classes` are read instead.
    segments: P, equal parts of the clip.
  """

  embed_dim: int = 512
  num_heads: int = 6
  mlp_dim: int = 1024
  head_dim: int = 64
  output_dim: int = 192
  num_mels: int = 128
  window_length: int = 2400
  hop_length: int = 480
  fft_size: int = 4096
  low_hz: float = 60.0
  high_hz: float = 4000.0
  intervals: Intervals | None = None
  pitch_classes: bool = False
  segments: int = 1

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
    x = x + self.table('position', count).astype(self.dtype)
    x = self.transform(x, training=training, head_dim=self.head_dim)
    x = x.reshape(batch, self.segments, -1, self.embed_dim)
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
    """Computes S / hop_length frames, each centred on its hop."""
    window = {
      'sample_rate': SAMPLE_RATE,
      'window_length': self.window_length,
      'hop_length': self.hop_length,
      'fft_size': self.fft_size,
      'low_hz': self.low_hz,
      'high_hz': self.high_hz,
    }
    octaves = math.log2(self.high_hz / self.low_hz)
    if self.pitch_classes:
      if not math.isclose(self.num_mels - 1, _OCTAVE * octaves, abs_tol=0.1):
        raise UsageError(
          f'{self.num_mels} bands from {self.low_hz} to {self.high_hz} Hz are '
          f'not {_OCTAVE} an octave: set config.model.high_hz to '
          f'{self.low_hz * 2 ** ((self.num_mels - 1) / _OCTAVE):.1f}'
        )
      return pitch_classes(waveform, num_bands=self.num_mels, **window)
    if self.intervals:
      semitones = 12.0 * octaves
      return self.intervals(
        salience(waveform, num_bands=self.num_mels, **window),
        frame_rate=SAMPLE_RATE / self.hop_length,
        bands_per_semitone=(self.num_mels - 1) / semitones,
      )
    padded = centre_on_hops(waveform, self.window_length, self.hop_length)
    return standardise(
      spectrogram.log_mel(padded, num_mels=self.num_mels, **window)
    )
