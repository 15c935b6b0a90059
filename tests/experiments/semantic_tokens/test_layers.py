"""The layers that are probed are those of the network."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from experiments.semantic_tokens import networks
from musiclm_jax.w2v_bert.features import SemanticFeatures


@pytest.mark.parametrize(
  'change',
  [
    {},
    {'num_cepstra': 12},
    {'conv_norm': 'batch'},
    {'attention_seconds': 0.2},
    {'feature_depth': 0},
    {'feature_depth': 1},
    {'feature_depth': 4, 'attention_seconds': 0.2},
  ],
)
def test_the_token_layer_is_what_becomes_tokens(task, waveform, change):
  semantic = SemanticFeatures(task.semantic.model.clone(**change))
  other = dataclasses.replace(task, semantic=semantic)
  made = jax.jit(other.init)(jax.random.key(1), {'waveform': waveform})
  params, collections = nn.unbox(made)
  found = jax.jit(functools.partial(networks.layers, semantic))(
    params, collections, waveform
  )
  assert set(found) == set(networks.names(semantic))
  assert networks.names(semantic)[-2:] == ['masked_2', 'masked_3']
  depth = change.get('feature_depth', 3)
  layer = networks.token_layer(semantic)
  assert (
    layer == ('projection', 'contrastive_1', '', 'masked_2', 'masked_3')[depth]
  )
  np.testing.assert_allclose(
    found[layer],
    jax.jit(semantic.features)(params, collections, waveform),
    atol=2e-5,
  )
  assert np.abs(found['masked_3'] - found['masked_2']).max() > 0.1


def test_the_input_is_what_the_network_reads(task, initial, waveform):
  params, collections = initial

  @jax.jit
  def both(params, collections, waveform):
    found = networks.layers(task.semantic, params, collections, waveform)
    return found, task.semantic.inputs(collections, waveform)

  found, mels = both(params, collections, waveform)
  np.testing.assert_array_equal(
    found['input'], np.reshape(mels, (4, 50, 4 * task.semantic.model.num_mels))
  )
  assert found['subsampling'].shape == (4, 50, task.semantic.model.latent_dim)
