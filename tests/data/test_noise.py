"""Claims about the noise that a codec learns to take out."""

import numpy as np

from musiclm_jax.data import noise


def _tone():
  return (0.5 * np.sin(np.arange(2400) / 5)).astype(np.float32)


def test_targets_follow_the_flag():
  """Of 400 draws: on, the target is clean; off, it is the input."""
  clean = _tone()
  kinds = {(True, True): 0, (True, False): 0, (False, True): 0, (0, 0): 0}
  for seed in range(400):
    one = noise.mixed(clean, np.random.default_rng(seed), 0.5)
    noisy_input, target = one['input'], one['waveform']
    noisy = np.abs(np.corrcoef(noisy_input, clean)[0, 1] - 1) > 1e-7
    kinds[noisy, bool(one['denoise'])] += 1
    assert np.abs(noisy_input).max() <= 1.0
    if noisy and one['denoise']:
      scale = target[1:] @ clean[1:] / (clean[1:] @ clean[1:])
      np.testing.assert_allclose(target, scale * clean, atol=1e-6)
      level = np.std(noisy_input - target) / np.std(target)
      assert 10 ** (-30 / 20) * 0.9 < level < 1.1
    else:
      np.testing.assert_array_equal(target, noisy_input)
  assert min(kinds.values()) > 70


def test_colours_differ_and_the_level_is_one():
  slopes = []
  for seed in range(20):
    x = noise.coloured(np.random.default_rng(seed), 4096)
    assert x.dtype == np.float32
    np.testing.assert_allclose(np.mean(x**2), 1.0, rtol=1e-3)
    power = np.abs(np.fft.rfft(x)[1:]) ** 2
    line = np.polyfit(np.log(np.arange(1, 2049)), np.log(power), 1)
    slopes.append(line[0])
  assert min(slopes) < -1.5 and max(slopes) > -0.5
