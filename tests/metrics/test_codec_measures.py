"""Claims about the measures of a codec's sound."""

import sys
import types

import numpy as np
import pytest

from musiclm_jax.metrics import codec

RATE = 24_000
TIME = np.arange(RATE) / RATE


def tones(hz, *, gain=1.0):
  """Sines of 0.1 at `hz`, one clip of a second [1, S]."""
  waves = [np.sin(2 * np.pi * each * TIME) for each in hz]
  return gain * 0.1 * np.sum(waves, axis=0)[None]


BASS = tones([110, 220])
HARMONICS = tones(np.arange(880, 4900, 220))


def test_soft_harmonics_are_as_much_below_zero_as_they_are_softer():
  real = BASS + HARMONICS
  assert codec.loudest_bins(real, real)[0] == 0.0
  softer = codec.loudest_bins(real, BASS + 0.2 * HARMONICS)[0]
  assert softer == pytest.approx(20 * np.log10(0.2), abs=0.3)


def test_what_is_outside_of_the_band_does_not_count():
  real = BASS + HARMONICS
  treble = tones([6000, 9000])
  assert abs(codec.loudest_bins(real, real - BASS + treble)[0]) < 0.2


def test_noise_in_place_of_harmonics_is_too_soft_at_their_bins():
  rng = np.random.default_rng(0)
  noise = rng.standard_normal(HARMONICS.shape)
  noise *= np.sqrt(np.mean(HARMONICS**2)) * np.sqrt(12 / 4.2)  # in the band
  assert codec.loudest_bins(HARMONICS, noise)[0] < -10
  other = rng.standard_normal(noise.shape) * noise.std()
  # What the docstring says of noise against noise.
  assert codec.loudest_bins(noise, other)[0] == pytest.approx(-8.5, abs=0.5)


def test_silent_clips_have_a_figure():
  silence = np.zeros((1, RATE))
  assert codec.loudest_bins(silence, silence)[0] == 0.0
  assert codec.loudest_bins(HARMONICS, silence)[0] < -40


def test_visqol_is_asked_in_its_audio_mode(monkeypatch):
  """Without the package: its calls are as its documentation says."""
  calls = []

  class VisqolApi:
    def create(self, mode):
      calls.append(mode)

    def measure_from_arrays(self, clip, coded, rate):
      calls.append((len(clip), len(coded), rate))
      return types.SimpleNamespace(moslqo=5.0 - np.abs(clip - coded).max())

  module = types.SimpleNamespace(VisqolApi=VisqolApi)
  monkeypatch.setitem(sys.modules, 'visqol', module)
  scores = codec.visqol(
    np.concatenate([BASS, BASS]), np.stack([BASS[0], 0 * TIME])
  )
  assert calls == ['audio', *[(48_000, 48_000, 48_000)] * 2]
  assert scores[0] == 5.0 > scores[1]
