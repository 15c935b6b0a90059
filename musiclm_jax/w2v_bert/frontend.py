"""Front end: waveform [B, S] at 24 kHz -> log-mels [B, 4T, M], T = S // 960.

Everything counts from the same start: log-mel frame k is centred on the 10 ms
that it stands for, and four of them make one of the T frames of 40 ms, so
that a semantic frame is exactly two codec frames.

Corpus statistics standardise each dimension over the data, not each vector
(AudioLM §4.1). They are a plain dict, a collection: `mean` [D], `variance` [D]
and `count`, the frames that they were taken from.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Spectrogram, Waveform
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.framing import centre_on_hops
from musiclm_jax.dsp.resample import resample_24k_to_16k
from musiclm_jax.dsp.spectrogram import log_mel

SAMPLES_PER_FRAME = 960  # of 24 kHz: 40 ms, 25 frames a second
MELS_PER_FRAME = 4
_SAMPLE_RATE = 16_000
_WINDOW = 400  # 25 ms
_HOP = 160  # 10 ms

# Of log-mels of music at usual levels, until the corpus has been seen.
TYPICAL_MEAN = -1.0
TYPICAL_VARIANCE = 5.0

Statistics = Mapping[str, Array]


def log_mels(waveform: Waveform, num_mels: int) -> Spectrogram:
  """Computes natural log-mel magnitudes, 25 ms windows every 10 ms.

  The signal is resampled to 16 kHz as a whole and counts as silence outside
  of its ends: half of what a window exceeds its hop, 7.5 ms, is padded on the
  left and on the right. Samples past the last whole 40 ms are dropped.

  Args:
    waveform: At 24 kHz, at least 40 ms long.
    num_mels: M.

  Returns:
    [B, 4 * (S // 960), M], not standardised.

  Raises:
    UsageError: If the waveform is shorter than one frame.
  """
  frames = waveform.shape[-1] // SAMPLES_PER_FRAME
  if frames == 0:
    raise UsageError(
      f'expected at least {SAMPLES_PER_FRAME} samples (40 ms), got '
      f'{waveform.shape[-1]}: pad the waveform'
    )
  x = resample_24k_to_16k(waveform[:, : frames * SAMPLES_PER_FRAME])
  return log_mel(
    centre_on_hops(x, _WINDOW, _HOP),
    sample_rate=_SAMPLE_RATE,
    window_length=_WINDOW,
    hop_length=_HOP,
    fft_size=512,
    num_mels=num_mels,
    low_hz=60.0,
    high_hz=7600.0,
    floor=1e-4,
  )


def cepstra(mels: Spectrogram) -> Spectrogram:
  """Turns log-mels into as many cepstral coefficients, DCT-II, orthonormal."""
  return jax.scipy.fft.dct(mels, axis=-1, norm='ortho')


def envelope(x: Spectrogram, count: int) -> Spectrogram:
  """Turns standardised cepstra back into bands of unit variance.

  Coefficient 0, the level, is left out, and so is what lies above `count`. The
  level is 79 % of the variance of standardised log-mels of music and names no
  instrument; here every coefficient that is kept has the same share.

  Args:
    x: Cepstra [B, 4T, M], each coefficient standardised over the corpus.
    count: Coefficients that are kept, 1 ... `count`, below M.
  """
  size = x.shape[-1]
  order = jnp.arange(size)
  kept = jnp.where((order > 0) & (order <= count), x, 0.0)
  bands = jax.scipy.fft.idct(kept, axis=-1, norm='ortho')
  return (size / count) ** 0.5 * bands


def init_statistics(
  dim: int, mean: float = 0.0, variance: float = 1.0
) -> Statistics:
  """Makes statistics of no frames, with values that hold until some come."""
  return {
    'mean': jnp.full((dim,), mean, jnp.float32),
    'variance': jnp.full((dim,), variance, jnp.float32),
    'count': jnp.zeros((), jnp.float32),
  }


def add_frames(
  statistics: Statistics,
  x: Float[Array, '... D'],
  memory: float = float('inf'),
) -> Statistics:
  """Merges a batch of frames into the statistics (Chan et al., 1979).

  Args:
    statistics: So far.
    x: Frames.
    memory: Most batches of this size that the past may weigh; finite where
      the data drift, for statistics that follow.
  """
  frames = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
  new = len(frames)
  past = jnp.minimum(statistics['count'], memory * new)
  total = past + new
  mean = frames.mean(axis=0)
  variance = jnp.mean((frames - mean) ** 2, axis=0)
  gap = mean - statistics['mean']
  return {
    'mean': statistics['mean'] + gap * (new / total),
    'variance': (past / total) * statistics['variance']
    + (new / total) * variance
    + gap**2 * (past / total) * (new / total),
    'count': total,
  }


def standardise(
  statistics: Statistics, x: Float[Array, '... D']
) -> Float[Array, '... D']:
  """Gives each dimension zero mean and unit variance over the corpus."""
  deviation = jnp.sqrt(statistics['variance'] + 1e-5)
  return (x.astype(jnp.float32) - statistics['mean']) / deviation
