"""Claims about spectra, held against librosa and scipy."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp import spectrogram


def _signal(samples=6000):
  return np.random.default_rng(0).normal(size=samples).astype(np.float32) / 4


def test_window_is_scipys_periodic_hann():
  np.testing.assert_allclose(
    spectrogram.hann_window(400),
    scipy.signal.get_window('hann', 400),
    atol=1e-7,
  )


def test_stft_equals_librosa():
  x = _signal()
  mine = spectrogram.stft(x, window_length=512, hop_length=128, fft_size=512)
  theirs = librosa.stft(x, n_fft=512, hop_length=128, center=False).T
  np.testing.assert_allclose(mine, theirs, atol=2e-5)


def test_zero_padded_stft_samples_the_same_spectrum_more_finely():
  x = _signal()
  short = spectrogram.stft(x, window_length=64, hop_length=16, fft_size=64)
  long = spectrogram.stft(x, window_length=64, hop_length=16, fft_size=512)
  np.testing.assert_allclose(short, long[:, ::8], atol=1e-5)


@pytest.mark.parametrize(
  'length, fft_size', [(64, 512), (400, 512), (2048, 2048)]
)
def test_a_product_transforms_as_numpy_does(length, fft_size):
  frames = _signal(5 * length).reshape(5, length)
  mine = spectrogram.transform_by_product(frames, fft_size)
  theirs = np.fft.rfft(frames.astype(np.float64), fft_size)
  np.testing.assert_allclose(mine, theirs, atol=1e-6 * abs(theirs).max())


def test_filterbank_equals_librosa():
  mine = spectrogram.mel_filterbank(
    sample_rate=16000,
    fft_size=1024,
    num_mels=64,
    low_hz=60.0,
    high_hz=7600.0,
  )
  theirs = librosa.filters.mel(
    sr=16000,
    n_fft=1024,
    n_mels=64,
    fmin=60.0,
    fmax=7600.0,
    htk=True,
    norm=None,
  ).T
  np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_log_mel_equals_librosa():
  x = _signal()
  mine = spectrogram.log_mel(
    x,
    sample_rate=24000,
    window_length=1024,
    hop_length=256,
    fft_size=1024,
    num_mels=64,
    low_hz=0.0,
    high_hz=12000.0,
  )
  theirs = librosa.feature.melspectrogram(
    y=x,
    sr=24000,
    n_fft=1024,
    hop_length=256,
    n_mels=64,
    htk=True,
    norm=None,
    center=False,
    power=1.0,
  ).T
  np.testing.assert_allclose(
    mine, np.log(np.maximum(theirs, 1e-5)), rtol=1e-4, atol=1e-4
  )


def test_an_empty_mel_filter_is_refused():
  with pytest.raises(UsageError, match='mel filters are empty'):
    spectrogram.mel_filterbank(
      sample_rate=24000, fft_size=64, num_mels=64, low_hz=0.0, high_hz=12000.0
    )


def test_silence_has_a_finite_gradient():
  def loss(x):
    return spectrogram.log_mel(
      x,
      sample_rate=24000,
      window_length=64,
      hop_length=16,
      fft_size=512,
      num_mels=64,
      low_hz=0.0,
      high_hz=12000.0,
    ).sum()

  assert np.all(np.isfinite(jax.grad(loss)(jnp.zeros(256))))


def test_pitch_filters_are_evenly_spaced_in_pitch_and_never_empty():
  filters = spectrogram.pitch_filterbank(
    sample_rate=24000, fft_size=4096, num_bands=61, low_hz=80.0, high_hz=2560.0
  )
  assert filters.shape == (2049, 61)
  assert filters.sum(axis=0).min() >= 1.0 - 1e-6
  pitch = 12 * np.log2(np.maximum(np.arange(2049) * 24000 / 4096, 1) / 80)
  # Five octaves in 60 steps: filter m is m semitones above the first.
  middles = (pitch @ filters) / filters.sum(axis=0)
  np.testing.assert_allclose(middles[24:], np.arange(24, 61), atol=0.3)
  inside = (pitch >= 30) & (pitch <= 58)
  np.testing.assert_allclose(filters[inside].sum(axis=1), 1.0, atol=0.05)
