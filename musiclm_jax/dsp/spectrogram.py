"""Spectrograms: waveform [..., S] -> STFT [..., T, F] -> mel [..., T, M].

Everything is float32 and every matmul has precision HIGHEST: on a TPU or GPU
the default would compute with bfloat16 or TF32, and features would differ
from machine to machine.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.framing import frame


def hann_window(length: int) -> np.ndarray:
  """Makes a periodic Hann window, float32 of shape [length]."""
  phase = 2.0 * np.pi * np.arange(length) / length
  return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)


def stft(
  x: Float[Array, '... S'],
  *,
  window_length: int,
  hop_length: int,
  fft_size: int,
  center: bool = False,
) -> Complex[Array, '... T F']:
  """Computes a short-time Fourier transform with a periodic Hann window.

  Args:
    x: Real signal.
    window_length: Samples under the window.
    hop_length: Samples from frame to frame.
    fft_size: Points of the transform; frames are zero-padded at their end.
    center: Whether half a window of zeros is put before and after the signal,
      so that frame t is centred on sample t * hop_length.

  Returns:
    Complex64 spectrum, F = fft_size // 2 + 1 and, if not centred,
    T = 1 + (S - window_length) // hop_length.

  Raises:
    UsageError: If the transform is shorter than the window, or the signal
      shorter than a window.
  """
  if fft_size < window_length:
    raise UsageError(
      f'expected fft_size >= window_length, came {fft_size} < {window_length}'
    )
  x = x.astype(jnp.float32)
  if center:
    padding = [(0, 0)] * (x.ndim - 1) + [(window_length // 2,) * 2]
    x = jnp.pad(x, padding)
  frames = frame(x, window_length, hop_length) * hann_window(window_length)
  return jnp.fft.rfft(frames, n=fft_size, axis=-1)


def hz_to_mel(hz: np.ndarray | float, htk: bool) -> np.ndarray:
  """Converts Hz to mel: HTK's formula, or Slaney's (linear below 1 kHz)."""
  hz = np.asarray(hz, np.float64)
  if htk:
    return 2595.0 * np.log10(1.0 + hz / 700.0)
  log_part = 15.0 + 27.0 / np.log(6.4) * np.log(np.maximum(hz, 1e-9) / 1000.0)
  return np.where(hz < 1000.0, hz * 3.0 / 200.0, log_part)


def mel_to_hz(mel: np.ndarray | float, htk: bool) -> np.ndarray:
  """Converts mel to Hz, the inverse of `hz_to_mel`."""
  mel = np.asarray(mel, np.float64)
  if htk:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
  log_part = 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0)
  return np.where(mel < 15.0, mel * 200.0 / 3.0, log_part)


def _triangles(
  bins: np.ndarray, tops: np.ndarray, rises: np.ndarray, falls: np.ndarray
) -> np.ndarray:
  """Triangles of height 1 at `tops`, 0 at a rise below and a fall above."""
  away = bins[:, None] - tops
  return np.maximum(0.0, np.minimum(1.0 + away / rises, 1.0 - away / falls))


@functools.lru_cache(maxsize=64)
def mel_filterbank(
  *,
  sample_rate: int,
  fft_size: int,
  num_mels: int,
  low_hz: float,
  high_hz: float,
  htk: bool = True,
  slaney_norm: bool = False,
) -> np.ndarray:
  """Makes triangular mel filters, spaced and sloped in Hz as librosa's.

  Args:
    sample_rate: In Hz.
    fft_size: Points of the transform that the filters weigh.
    num_mels: Filters, M.
    low_hz: Lower end of the first filter.
    high_hz: Upper end of the last filter.
    htk: HTK's mel scale instead of Slaney's.
    slaney_norm: Whether a filter has area 1 over Hz instead of height 1.

  Returns:
    Filters, float32 of shape [F, M]; do not write to it.

  Raises:
    UsageError: If a filter would be empty: ask for fewer or a longer
      transform.
  """
  bins = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
  mels = np.linspace(
    hz_to_mel(low_hz, htk), hz_to_mel(high_hz, htk), num_mels + 2
  )
  edges = mel_to_hz(mels, htk)
  steps = np.diff(edges)
  filters = _triangles(bins, edges[1:-1], steps[:-1], steps[1:])
  empty = int((filters.sum(axis=0) == 0.0).sum())
  if empty:
    raise UsageError(
      f'{empty} of {num_mels} mel filters are empty with {fft_size} points at '
      f'{sample_rate} Hz: choose fewer filters or a longer transform'
    )
  if slaney_norm:
    filters *= 2.0 / (edges[2:] - edges[:-2])
  filters = filters.astype(np.float32)
  filters.setflags(write=False)
  return filters


@functools.lru_cache(maxsize=64)
def pitch_filterbank(
  *,
  sample_rate: int,
  fft_size: int,
  num_bands: int,
  low_hz: float,
  high_hz: float,
) -> np.ndarray:
  """Makes triangular filters that are evenly spaced in pitch.

  So a transposition moves a sound by as many filters, whatever its pitch. A
  side of a filter spans the way to the next filter, but at least one bin of
  the transform, so that low filters overlap and none is empty.

  Args:
    sample_rate: In Hz.
    fft_size: Points of the transform that the filters weigh.
    num_bands: Filters, M, at least 2.
    low_hz: Top of the first filter.
    high_hz: Top of the last filter.

  Returns:
    Filters of height 1, float32 of shape [F, M]; do not write to it.
  """
  bins = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
  tops = np.geomspace(low_hz, high_hz, num_bands)
  ratio = (high_hz / low_hz) ** (1.0 / (num_bands - 1))
  rises, falls = (
    np.maximum(tops * abs(r - 1.0), bins[1]) for r in (1.0 / ratio, ratio)
  )
  filters = _triangles(bins, tops, rises, falls).astype(np.float32)
  filters.setflags(write=False)
  return filters


def mel_spectrogram(
  x: Float[Array, '... S'],
  *,
  sample_rate: int,
  window_length: int,
  hop_length: int,
  fft_size: int,
  num_mels: int,
  low_hz: float,
  high_hz: float,
  center: bool = False,
  htk: bool = True,
  slaney_norm: bool = False,
  power: float = 1.0,
) -> Float[Array, '... T M']:
  """Computes a mel spectrogram of magnitudes raised to `power`.

  Args are those of `stft` and `mel_filterbank`; a power of 1.0 gives
  magnitudes, 2.0 gives energies.
  """
  spectrum = stft(
    x,
    window_length=window_length,
    hop_length=hop_length,
    fft_size=fft_size,
    center=center,
  )
  if power == 2.0:  # the square of a square root would cost a gradient at 0
    magnitude = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  elif power == 1.0:
    magnitude = jnp.abs(spectrum)
  else:
    magnitude = jnp.abs(spectrum) ** power
  filters = mel_filterbank(
    sample_rate=sample_rate,
    fft_size=fft_size,
    num_mels=num_mels,
    low_hz=low_hz,
    high_hz=high_hz,
    htk=htk,
    slaney_norm=slaney_norm,
  )
  return jnp.matmul(magnitude, filters, precision=jax.lax.Precision.HIGHEST)


def log_mel(
  x: Float[Array, '... S'],
  *,
  sample_rate: int,
  window_length: int,
  hop_length: int,
  fft_size: int,
  num_mels: int,
  low_hz: float,
  high_hz: float,
  floor: float = 1e-5,
  center: bool = False,
  htk: bool = True,
  slaney_norm: bool = False,
  power: float = 1.0,
) -> Float[Array, '... T M']:
  """Computes the natural logarithm of a mel spectrogram, not below `floor`.

  Args are those of `mel_spectrogram`; mel values below `floor` count as
  `floor`, and have no gradient.
  """
  mel = mel_spectrogram(
    x,
    sample_rate=sample_rate,
    window_length=window_length,
    hop_length=hop_length,
    fft_size=fft_size,
    num_mels=num_mels,
    low_hz=low_hz,
    high_hz=high_hz,
    center=center,
    htk=htk,
    slaney_norm=slaney_norm,
    power=power,
  )
  return jnp.log(jnp.maximum(mel, floor))
