"""Claims about the codec's discriminators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.soundstream.discriminators import (
  Discriminators,
  StftDiscriminator,
  halve_rate,
)


def _count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope='module')
def paper():
  module, x = Discriminators(), jnp.zeros((2, 24_000))
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  return variables['params'], jax.eval_shape(module.apply, variables, x)


def test_paper_size_has_melgans_and_soundstreams_parameters(paper):
  params, _ = paper
  for scale in range(3):
    # MelGAN's 5.64 M each, with the lengths of weight normalisation.
    assert _count(params[f'WaveDiscriminator_{scale}']) == 5_641_362
  assert _count(params['StftDiscriminator_0']) == 5_551_170  # paper: 5.5 M


def test_paper_size_has_the_papers_shapes(paper):
  _, outputs = paper
  # Waves: S / 256 at each scale; STFT: 90 frames, 8 times fewer logits.
  assert [j.logits.shape for j in outputs] == [
    (2, 94),
    (2, 47),
    (2, 24),
    (2, 12),
  ]
  waves, spectrum = outputs[0].features, outputs[-1].features
  assert [f.shape[-1] for f in waves] == [16, 64, 256, 1024, 1024, 1024]
  assert [f.shape[2:] for f in spectrum] == [
    (512, 32),
    (256, 64),
    (128, 128),
    (64, 128),
    (32, 256),
    (16, 256),
    (8, 512),
  ]


@pytest.fixture(scope='module')
def spectral():
  """A small spectral discriminator: (apply, variables, waveform)."""
  module = StftDiscriminator(channels=2)
  x = jax.random.normal(jax.random.key(1), (1, 4096))
  return jax.jit(module.apply), jax.jit(module.init)(jax.random.key(0), x), x


def test_spectral_logits_take_both_signs(spectral):
  """Mistake 4: logits taken with abs(); fakes can never go below -1."""
  discriminate, variables, x = spectral
  params = variables['params']
  head = params['Conv_1']
  turned = {**params, 'Conv_1': {**head, 'scale': -head['scale']}}
  logits = discriminate(variables, x).logits
  assert np.abs(logits).min() > 0.0
  np.testing.assert_allclose(
    discriminate({'params': turned}, x).logits, -logits
  )


def test_phase_matters(spectral):
  discriminate, variables, x = spectral
  # The magnitudes of -x are those of x.
  difference = (
    discriminate(variables, x).logits - discriminate(variables, -x).logits
  )
  assert np.abs(difference).max() > 1e-4


def test_windows_add_spectral_discriminators():
  module = Discriminators(
    num_scales=1,
    wave_channels=2,
    wave_max_channels=8,
    stft_channels=2,
    stft_windows=(512, 1024, 2048),
  )
  x = jnp.zeros((1, 24_000))
  variables = jax.eval_shape(module.init, jax.random.key(0), x)
  outputs = jax.eval_shape(module.apply, variables, x)
  assert len(outputs) == 4
  # Frames of 256, 512 and 1,024 bins at hops of 128, 256 and 512 samples.
  assert [j.features[0].shape[1:3] for j in outputs[1:]] == [
    (184, 256),
    (90, 512),
    (43, 1024),
  ]


def test_scales_are_averages_of_what_is_there():
  x = jnp.arange(8.0)[None]
  np.testing.assert_allclose(halve_rate(x), [[1.0, 2.5, 4.5, 6.0]])
