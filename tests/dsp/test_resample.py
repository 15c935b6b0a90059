"""Claims about 24 -> 16 kHz."""

import numpy as np
import pytest
import scipy.signal

from musiclm_jax.dsp.resample import resample_24k_to_16k


def _sine(hz, rate, seconds=0.5):
  return np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate).astype(
    np.float32
  )


@pytest.mark.parametrize('samples', [240, 241, 242, 2400])
def test_length_is_exactly_two_thirds(samples):
  assert resample_24k_to_16k(np.zeros((2, samples))).shape == (
    2,
    samples * 2 // 3,
  )


@pytest.mark.parametrize('hz', [55.0, 1000.0, 6500.0])
def test_a_sine_stays_the_same_sine_without_delay(hz):
  y = np.asarray(resample_24k_to_16k(_sine(hz, 24000)))
  middle = slice(200, -200)
  np.testing.assert_allclose(y[middle], _sine(hz, 16000)[middle], atol=2e-3)


def test_what_lies_above_the_new_nyquist_frequency_is_removed():
  y = np.asarray(resample_24k_to_16k(_sine(9500.0, 24000)))
  assert np.abs(y[200:-200]).max() < 1e-3


def test_noise_below_the_cut_off_agrees_with_scipy():
  noise = np.random.default_rng(0).normal(size=6000)
  low = scipy.signal.sosfiltfilt(
    scipy.signal.butter(8, 5000, fs=24000, output='sos'), noise
  ).astype(np.float32)
  theirs = scipy.signal.resample_poly(low, 2, 3)
  np.testing.assert_allclose(
    np.asarray(resample_24k_to_16k(low))[200:-200],
    theirs[200:-200],
    atol=0.01,
  )
