"""Claims about the codec's losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.soundstream import losses
from musiclm_jax.soundstream.discriminators import DiscriminatorOutput

S = 4096


def _output(logit, feature=0.0, frames=5):
  features = (jnp.full((2, 3), feature), jnp.full((2, 7, 2), 3.0 * feature))
  return DiscriminatorOutput(jnp.full((2, frames), logit), features)


def _noise(seed=0, batch=2):
  return 0.1 * jax.random.normal(jax.random.key(seed), (batch, S))


def _harmonic_loss(target, output):
  """As `small` has it."""
  mels = losses.reconstruction_loss(
    target, output, losses.FINE_SCALES, log_only=True
  )
  return mels + losses.log_stft_loss(target, output)


def test_hinge_leaves_fakes_below_minus_one_alone():
  """Mistake 4: a hinge that never sees D < 0."""
  real = [_output(3.0)]
  assert losses.discriminator_loss(real, [_output(-2.0)]) == 0.0
  assert losses.discriminator_loss(real, [_output(-0.5)]) == 0.5
  assert losses.discriminator_loss([_output(0.0)], [_output(0.0)]) == 2.0


def test_the_codecs_hinge_is_clipped():
  """Mistake 5: an unclipped -mean(D(fake)) runs away."""
  assert losses.adversarial_loss([_output(50.0)]) == 0.0
  assert losses.adversarial_loss([_output(-1.0)]) == 2.0


def test_discriminators_are_averaged_whatever_their_length():
  """Mistake 7: the STFT discriminator added at full weight."""
  fakes = [_output(0.0, frames=100), _output(1.0, frames=4)]
  assert losses.adversarial_loss(fakes) == 0.5
  reals = [_output(1.0, frames=100), _output(1.0, frames=4)]
  assert losses.discriminator_loss(reals, fakes) == 1.5


def test_feature_loss_is_the_mean_over_layers_and_discriminators():
  reals = [_output(0.0, 1.0), _output(0.0, 0.0)]
  fakes = [_output(0.0, 0.0), _output(0.0, 0.0)]
  assert losses.feature_loss(reals, fakes) == (1.0 + 3.0) / 2 / 2


def test_relative_feature_loss_counts_layers_alike_and_not_by_their_size():
  """Layers of 2 and 6, each off by half: an absolute loss sees the second."""
  reals, fakes = [_output(0.0, 2.0)], [_output(0.0, 1.0)]
  assert losses.feature_loss(reals, fakes) == (1.0 + 3.0) / 2
  assert losses.feature_loss(reals, fakes, relative=True) == 0.5
  larger = [_output(0.0, 20.0)], [_output(0.0, 10.0)]
  assert losses.feature_loss(*larger, relative=True) == 0.5
  silent = losses.feature_loss([_output(0.0)], [_output(0.0)], relative=True)
  assert silent == 0.0


def test_reconstruction_loss_follows_the_papers_equation():
  """Mistakes 2 and 3: another norm, another alpha, window 2^11 left out."""
  import librosa

  x, y = np.asarray(_noise(0, 1)[0]), np.asarray(_noise(1, 1)[0])
  expected = []
  for window in (64, 128, 256, 512, 1024, 2048):
    fft_size = max(512, window)

    def mel(signal, window=window, fft_size=fft_size):
      frames = np.lib.stride_tricks.sliding_window_view(signal, window)
      frames = frames[:: window // 4] * np.hanning(window + 1)[:-1]
      magnitude = np.abs(np.fft.rfft(frames, fft_size))
      filters = librosa.filters.mel(
        sr=24000, n_fft=fft_size, n_mels=64, htk=True, norm=None
      )
      return magnitude @ filters.T

    a, b = mel(x), mel(y)
    log_a, log_b = (np.log(np.maximum(m, 1e-5)) for m in (a, b))
    first = np.abs(a - b).sum(axis=1)
    second = np.linalg.norm(log_a - log_b, axis=1)
    expected.append((first + np.sqrt(window / 2) * second).mean() / 64)
  mine = jax.jit(losses.reconstruction_loss)(x[None], y[None])
  np.testing.assert_allclose(mine, np.mean(expected), rtol=1e-4)


def test_fine_scales_have_mels_as_their_windows_bins():
  assert losses.FINE_SCALES[0] == (32, 5)
  assert losses.FINE_SCALES[-1] == (2048, 320)
  for window, num_mels in losses.FINE_SCALES:
    assert losses.fft_size(window, num_mels) == window, 'nothing is padded'
  assert [losses.fft_size(*scale) for scale in losses.SCALES] == [
    *(512, 512, 512, 512),
    *(1024, 2048),
  ]


def test_log_only_is_the_mean_log_mel_difference_of_every_scale():
  x = _noise()
  half = losses.reconstruction_loss(
    x, 0.5 * x, losses.FINE_SCALES, log_only=True
  )
  np.testing.assert_allclose(half, np.log(2.0), rtol=1e-3)


def test_log_stft_loss_is_in_nepers_and_fades_into_its_floor():
  x = _noise()
  loss = jax.jit(losses.log_stft_loss)
  assert loss(x, x) == 0.0
  np.testing.assert_allclose(loss(x, 0.5 * x), np.log(2.0), rtol=0.05)
  assert loss(1e-6 * x, jnp.zeros_like(x)) < 1e-2
  short = jnp.ones((1, 256))
  assert loss(short, 0.5 * short) == 0.0, 'shorter than every window'


def test_the_waveform_loss_counts_in_units_of_each_clips_loudness():
  x = _noise()
  error = 0.1 * _noise(1)
  loss = losses.waveform_loss(x, x + error)
  rms = jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True))
  np.testing.assert_allclose(loss, jnp.mean(jnp.abs(error) / rms), rtol=0.02)
  louder = losses.waveform_loss(10 * x, 10 * (x + error))
  np.testing.assert_allclose(louder, loss, rtol=0.02)
  assert losses.waveform_loss(jnp.zeros((1, S)), jnp.zeros((1, S))) == 0.0


def test_reconstruction_loss_does_not_grow_with_the_crop():
  """Mistake 11: a sum over frames explodes."""
  x, y = _noise(0), _noise(1)
  loss = jax.jit(losses.reconstruction_loss)
  once = loss(x, y)
  twice = loss(jnp.tile(x, (1, 2)), jnp.tile(y, (1, 2)))
  np.testing.assert_allclose(once, twice, rtol=0.03)


def test_perfect_and_silent_reconstructions_have_finite_gradients():
  silence, x = jnp.zeros((2, S)), _noise()
  for loss in (losses.reconstruction_loss, _harmonic_loss):
    gradient = jax.jit(jax.grad(loss, argnums=1))
    for target, output in ((silence, silence), (x, x), (x, silence)):
      assert np.all(np.isfinite(gradient(target, output)))
  assert losses.reconstruction_loss(x, x) == 0.0


def test_metrics_are_per_example():
  x = _noise()
  noisy = x.at[1].add(0.1 * _noise(2)[1])
  distance = losses.log_mel_distance(x, noisy)
  assert distance[0] == 0.0 and distance[1] > 0.0
  np.testing.assert_allclose(losses.si_sdr(x, 3.0 * noisy)[1], 20.0, atol=0.5)


@pytest.mark.parametrize('scale', [0.1, 10.0])
def test_si_sdr_ignores_the_scale(scale):
  x, y = _noise(0) + _noise(1), _noise(0)
  np.testing.assert_allclose(
    losses.si_sdr(x, scale * y), losses.si_sdr(x, y), atol=1e-2
  )
