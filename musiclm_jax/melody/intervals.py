"""Intervals: waveform [B, S] -> what does not change when a tune is transposed.

STFT -> bands evenly spaced in pitch [B, T, F] -> what stands out of the clip
-> each frame compared with earlier ones at all transpositions [B, T, I]

On this axis a transposition moves all frames alike, and a comparison of two of
them does not see it. Pitch against pitch after pitch is the intervalgram of
Walters, Ross & Lyon 2012.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Spectrogram, Waveform
from musiclm_jax.dsp import spectrogram
from musiclm_jax.dsp.framing import centre_on_hops

_FLOOR = 0.03  # 30 dB below the loudest band of a clip


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
  waveform: Waveform,
  *,
  sample_rate: int,
  window_length: int,
  hop_length: int,
  fft_size: int,
  num_bands: int,
  low_hz: float,
  high_hz: float,
) -> Spectrogram:
  """Keeps of each frame what is louder than its band's mean over the clip.

  In logarithms, of clips at any level; a frame has norm 1 at most, and less
  where little stands out.

  Args:
    waveform: At `sample_rate`.
    sample_rate: In Hz.
    window_length: Of the spectrogram, in samples.
    hop_length: Of the spectrogram, in samples.
    fft_size: Of the spectrogram.
    num_bands: Bands F.
    low_hz: Middle of the lowest band.
    high_hz: Middle of the highest band.

  Returns:
    S / hop_length frames, each centred on its hop.
  """
  spectrum = spectrogram.stft(
    centre_on_hops(waveform, window_length, hop_length),
    window_length=window_length,
    hop_length=hop_length,
    fft_size=fft_size,
  )
  filters = spectrogram.pitch_filterbank(
    sample_rate=sample_rate,
    fft_size=fft_size,
    num_bands=num_bands,
    low_hz=low_hz,
    high_hz=high_hz,
  )
  bands = jnp.matmul(
    jnp.abs(spectrum), filters, precision=jax.lax.Precision.HIGHEST
  )
  loudest = bands.max(axis=(1, 2), keepdims=True)
  x = jnp.log(jnp.maximum(bands / jnp.maximum(loudest, 1e-9), _FLOOR))
  x = jnp.maximum(standardise(x), 0.0)
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
  alone: statistics of a batch would tie the two takes of a tune, which come in
  one batch, to each other, and would differ in use.
  """
  x = x - x.mean(axis=1, keepdims=True)
  variance = jnp.square(x).mean(axis=(1, 2), keepdims=True)
  return x * jax.lax.rsqrt(variance + 1e-3)  # silence stays silent
