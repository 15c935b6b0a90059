"""Spectrograms: waveform [..., S] -> STFT [..., T, F] -> mel [..., T, M].

Everything is float32 and every matmul has precision HIGHEST: on a TPU or GPU
the default would compute with bfloat16 or TF32, and features would differ
from machine to machine.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.framing import frame

# Samples of a window up to which one product is faster on a TPU: by bytes and
# operations at float32 they are even a little above it.
_LONGEST_PRODUCT = 2048


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
) -> Complex[Array, '... T F']:
  """Computes a short-time Fourier transform with a periodic Hann window.

  On TPUs by a product with the transform's matrix where windows are short: a
  fast transform moves several times as many bytes there.

  Args:
    x: Real signal.
    window_length: Samples under the window.
    hop_length: Samples from frame to frame.
    fft_size: Points of the transform; frames are zero-padded at their end.

  Returns:
    Complex64 spectrum, F = fft_size // 2 + 1 and
    T = 1 + (S - window_length) // hop_length.

  Raises:
    UsageError: If the transform is shorter than the window, or the signal
      shorter than a window.
  """
  if fft_size < window_length:
    raise UsageError(
      f'expected fft_size >= window_length, got {fft_size} < {window_length}'
    )
  frames = frame(
    x.astype(jnp.float32), window_length, hop_length
  ) * hann_window(window_length)
  transform = functools.partial(jnp.fft.rfft, n=fft_size, axis=-1)
  if window_length > _LONGEST_PRODUCT:
    return transform(frames)
  return jax.lax.platform_dependent(
    frames,
    tpu=functools.partial(transform_by_product, fft_size=fft_size),
    default=transform,
  )


def transform_by_product(
  frames: Float[Array, '... L'], fft_size: int
) -> Complex[Array, '... F']:
  """Computes what `jnp.fft.rfft(frames, fft_size)` does, by one product."""
  both = jnp.matmul(
    frames,
    _fourier_matrix(frames.shape[-1], fft_size),
    precision=jax.lax.Precision.HIGHEST,
  )
  return jax.lax.complex(*jnp.split(both, 2, axis=-1))


def _fourier_matrix(window_length: int, fft_size: int) -> Float[Array, 'L G']:
  """Real parts beside imaginary parts of all bins, G = 2 F.

  Computed where it is used: a program need not carry 17 MB of constants.
  """
  samples, bins = jnp.arange(window_length), jnp.arange(fft_size // 2 + 1)
  turns = samples[:, None] * bins % fft_size
  phase = turns * np.float32(2.0 * np.pi / fft_size)
  return jnp.concatenate([jnp.cos(phase), -jnp.sin(phase)], axis=1)


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
  """Converts Hz to mel by HTK's formula."""
  return 2595.0 * np.log10(1.0 + np.asarray(hz, np.float64) / 700.0)


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
) -> np.ndarray:
  """Makes triangular mel filters of height 1, with slopes in Hz as librosa's.

  Args:
    sample_rate: In Hz.
    fft_size: Points of the transform that the filters weigh.
    num_mels: Filters, M.
    low_hz: Lower end of the first filter.
    high_hz: Upper end of the last filter.

  Returns:
    Filters, float32 of shape [F, M]; do not write to it.

  Raises:
    UsageError: If a filter would be empty: ask for fewer or a longer
      transform.
  """
  bins = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
  mels = np.linspace(hz_to_mel(low_hz), hz_to_mel(high_hz), num_mels + 2)
  edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)  # undoes `hz_to_mel`
  steps = np.diff(edges)
  filters = _triangles(bins, edges[1:-1], steps[:-1], steps[1:])
  empty = int((filters.sum(axis=0) == 0.0).sum())
  if empty:
    raise UsageError(
      f'{empty} of {num_mels} mel filters are empty with {fft_size} points at '
      f'{sample_rate} Hz: choose fewer filters or a longer transform'
    )
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


def magnitudes(
  x: Float[Array, '... S'],
  filterbank: Callable[..., np.ndarray] = mel_filterbank,
  *,
  window_length: int,
  hop_length: int,
  fft_size: int,
  **bands: Any,
) -> Float[Array, '... T M']:
  """Computes a spectrogram of magnitudes in bands.

  Args:
    x: Real signal.
    filterbank: `mel_filterbank` or `pitch_filterbank`.
    window_length: See `stft`.
    hop_length: See `stft`.
    fft_size: See `stft`.
    **bands: The other arguments of the filterbank.
  """
  spectrum = stft(
    x,
    window_length=window_length,
    hop_length=hop_length,
    fft_size=fft_size,
  )
  filters = filterbank(fft_size=fft_size, **bands)
  return jnp.matmul(
    jnp.abs(spectrum), filters, precision=jax.lax.Precision.HIGHEST
  )


def log_mel(
  x: Float[Array, '... S'], *, floor: float = 1e-5, **bands: Any
) -> Float[Array, '... T M']:
  """Computes the natural logarithm of a mel spectrogram, not below `floor`.

  Args:
    x: Real signal.
    floor: What mel values below it count as; they have no gradient.
    **bands: Of `magnitudes` and `mel_filterbank`.
  """
  return jnp.log(jnp.maximum(magnitudes(x, **bands), floor))
