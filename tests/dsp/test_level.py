"""Levels against closed forms."""

import numpy as np

from musiclm_jax.dsp.level import rms_dbfs


def test_levels_of_square_sine_and_silence():
  time = np.arange(24000) / 24000
  sine = np.sin(2 * np.pi * 440 * time)
  waves = np.stack([np.sign(sine + 1e-9), sine, 0.1 * sine, 0 * sine])
  np.testing.assert_allclose(
    rms_dbfs(waves), [0, -3.0103, -23.0103, -120], atol=1e-4
  )


def test_no_samples_are_silence():
  assert rms_dbfs(np.zeros(0)) == -120
