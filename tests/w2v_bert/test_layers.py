"""The layers that are probed are those of the network."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.w2v_bert import layers


@pytest.mark.parametrize(
  'change', [{}, {'num_cepstra': 12}, {'conv_norm': 'batch'}]
)
def test_the_token_layer_is_what_becomes_tokens(task, waveform, change):
  other = dataclasses.replace(task, model=task.model.clone(**change))
  made = jax.jit(other.init)(jax.random.key(1), {'waveform': waveform})
  params, collections = nn.unbox(made)
  found = jax.jit(lambda *a: layers.features(other, *a))(
    params, collections, waveform
  )
  assert set(found) == set(layers.names(other))
  assert layers.names(other)[-2:] == ['masked_2', 'masked_3']
  assert layers.token_layer(other) == 'masked_2'
  np.testing.assert_allclose(
    found['masked_2'],
    jax.jit(other.features)(params, collections, waveform),
    atol=2e-5,
  )
  assert np.abs(found['masked_3'] - found['masked_2']).max() > 0.1


def test_the_input_is_what_the_network_hears(task, initial, waveform):
  params, collections = initial

  @jax.jit
  def both(params, collections, waveform):
    found = layers.features(task, params, collections, waveform)
    return found, task.inputs(collections, waveform)

  found, mels = both(params, collections, waveform)
  np.testing.assert_array_equal(
    found['input'], np.reshape(mels, (4, 50, 4 * task.model.num_mels))
  )
  assert found['subsampling'].shape == (4, 50, task.model.latent_dim)
