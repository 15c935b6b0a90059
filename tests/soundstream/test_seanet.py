"""Claims about SoundStream's encoder and decoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.soundstream.seanet import SoundStream

HOP = 8


@pytest.fixture(scope='module')
def codec():
  module = SoundStream(
    channels=4,
    latent_dim=6,
    strides=(2, 4),
    dilations=(1, 3),
    num_quantizers=3,
    codebook_size=8,
  )
  variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 64)))

  def encode(x):
    return module.apply(variables, x, method='encode')[0]

  def decode(z):
    return module.apply(variables, z, method='decode')[0]

  return module, jax.jit(encode), jax.jit(decode)


def _noise(*shape):
  return jax.random.normal(jax.random.key(1), shape)


def test_lengths_are_exact(codec):
  _, encode, decode = codec
  latents = encode(_noise(2, 56))
  assert latents.shape == (2, 7, 6)
  assert decode(latents).shape == (2, 56)


def test_a_waveform_that_is_no_whole_number_of_hops_is_refused(codec):
  """Mistake 22: frame counts that are not exactly rate times seconds."""
  with pytest.raises(UsageError, match='multiple of 8 samples'):
    codec[1](_noise(1, 57))


def test_the_gain_is_undone_on_the_way_out(codec):
  """The network inside reads the louder waveform; nothing else changes."""
  module, _, _ = codec
  louder = module.clone(gain=10.0)
  x = _noise(1, 64)
  variables = jax.jit(module.init)(jax.random.key(0), x)
  np.testing.assert_allclose(
    jax.jit(louder.apply)(variables, x),
    jax.jit(module.apply)(variables, 10 * x) / 10,
    rtol=1e-5,
    atol=1e-6,
  )


def test_silence_is_zero_inside_and_silence_again(codec):
  _, encode, decode = codec
  assert not encode(jnp.zeros((1, 64))).any()
  assert not decode(jnp.zeros((1, 8, 6))).any()


def test_the_networks_are_not_blind(codec):
  _, encode, decode = codec
  latents = encode(_noise(1, 64))
  assert np.std(latents) > 0.1
  assert np.std(decode(latents)) > 0.05


def test_paper_size_has_the_papers_parameters_and_rate():
  """Mistake 8: 16 kHz strides in the 24 kHz model give 75 Hz, not 50."""
  module = SoundStream()
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), jnp.zeros((1, 24_000))
  )
  count = {
    name: sum(leaf.size for leaf in jax.tree.leaves(part))
    for name, part in shapes['params'].items()
  }
  assert count == {'encoder': 4_788_448, 'decoder': 5_050_592}
  assert sum(count.values()) == 9_839_040  # strides (3, 4, 5, 8)
  assert 24_000 / module.hop_length == 50.0
