"""VGGish's front end: the published values, and the frames of an example."""

from pathlib import Path

import numpy as np
import pytest

from musiclm_jax.dsp import vggish_mel

REFERENCE = Path(__file__).parents[2].parent / 'shared' / 'refs'


def sine(seconds=3.0):
  time = np.arange(round(seconds * vggish_mel.SAMPLE_RATE))
  return np.sin(2 * np.pi * 1000 * time / vggish_mel.SAMPLE_RATE).astype('f4')


def test_log_mels_of_a_sine_are_those_of_independent_code():
  path = REFERENCE / 'vggish_logmel_1khz.npz'
  if not path.exists():
    pytest.skip('the reference, made by independent code, is not here')
  with np.load(path) as reference:
    ours = vggish_mel.log_mel(sine())
    assert ours.shape == reference['log_mel'].shape == (298, 64)
    np.testing.assert_allclose(ours, reference['log_mel'], atol=1e-4)
    np.testing.assert_allclose(
      vggish_mel.mel_matrix(), reference['mel_matrix'], atol=1e-6
    )


def test_log_mels_of_a_sine_have_the_published_moments():
  ours = vggish_mel.log_mel(sine())
  assert ours.mean() == pytest.approx(-3.429619, abs=1e-4)
  assert ours.std() == pytest.approx(2.126577, abs=1e-4)
  assert ours.mean(axis=0).argmax() == 19


def test_ten_seconds_are_ten_examples():
  frames = vggish_mel.log_mel(np.zeros(160_000, np.float32)).shape[0]
  assert frames == 998
  assert frames // vggish_mel.EXAMPLE_FRAMES == 10
  example = vggish_mel.EXAMPLE_SAMPLES
  assert 1 + (160_000 - example) // (96 * vggish_mel.HOP_LENGTH) == 10


def test_silence_is_the_logarithm_of_the_offset():
  ours = vggish_mel.log_mel(np.zeros(4000, np.float32))
  np.testing.assert_allclose(ours, np.log(0.01), rtol=1e-6)
