"""A cascade of minute, untrained networks: K = 16, crops below a second."""

import dataclasses
import types

import jax
import numpy as np
import pytest
from flax import linen as nn
from small_layouts import small_layout

from musiclm_jax.cascade import bundle
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts.token_contract import TokenContract, TokenSpec
from musiclm_jax.nn import quantizer
from musiclm_jax.nn.transformer import Transformer
from musiclm_jax.parallel_lm.decoder import ParallelDecoder
from musiclm_jax.parallel_lm.model import make_parallel_lm
from musiclm_jax.soundstream.codec import Codec
from musiclm_jax.soundstream.seanet import SoundStream
from musiclm_jax.token_lm.language_model import LanguageModel
from musiclm_jax.token_lm.model import TokenLM
from musiclm_jax.token_lm.task import TokenLMTask

SPECS = {
  'mulan': TokenSpec(16, 12, 0.0),
  'semantic': TokenSpec(16, 1, 25.0),
  'acoustic': TokenSpec(16, 4, 50.0),
}
CONTRACT = TokenContract(
  sample_rate=24000,
  streams=SPECS,
  coarse_levels=2,
  mulan_audio_mean=(0.5, 0.25),
  mulan_text_mean=(0.0, -1.0),
  networks={'soundstream': 'a', 'mulan': 'b'},
)
CROPS = {'semantic': 0.8, 'coarse': 0.4, 'fine': 0.24}


def network(model, params, collections, config=None):
  params, collections = jax.tree.map(jax.numpy.asarray, (params, collections))
  weights = Weights(config or {}, *jax.device_get((params, collections)))
  return Network(model, config or {}, weights)


def drawn(shapes):
  """Parameters of given shapes, without compiling a network's own init."""
  rng = np.random.default_rng(0)

  def draw(leaf):
    fan_in = max(np.prod(leaf.shape[:-1]), 1)
    return rng.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

  return jax.tree.map(draw, nn.unbox(shapes))


def language_model(stage):
  transformer = Transformer(
    num_layers=1,
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    causal=True,
    relative_buckets=8,
    relative_max_distance=32,
  )
  layout = small_layout(stage, CROPS[stage])
  model = LanguageModel(TokenLM(layout, transformer))
  frames = round(CROPS[stage] * 25)
  batch = {
    'mulan': jax.numpy.zeros((1, 12), int),
    'semantic': jax.numpy.zeros((1, frames), int),
    'acoustic': jax.numpy.zeros((1, 2 * frames, 4), int),
  }
  shapes, _ = jax.eval_shape(TokenLMTask(model).init, jax.random.key(0), batch)
  return network(model, drawn(shapes), {})


def parallel_lm():
  model = make_parallel_lm(
    small_layout('parallel', 0.4),
    num_layers=1,
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    relative_buckets=8,
  )
  decoder = ParallelDecoder(model, iterations=(3,))
  return network(decoder, drawn(decoder.abstract_params()), {})


def codec():
  model = SoundStream(
    channels=2,
    latent_dim=8,
    strides=(3, 4, 5, 8),
    num_quantizers=4,
    codebook_size=16,
  )
  waveform = jax.numpy.zeros((1, 960))
  shapes = jax.eval_shape(model.init, jax.random.key(0), waveform)
  params = {'codec': drawn(shapes)['params']}
  books = quantizer.init_codebooks(4, 16, 8)
  books['embed'] = jax.random.normal(jax.random.key(2), (4, 16, 8))
  return network(Codec(model), params, {'codec': books})


def stages(contract):
  """A few weights of every stage of a bundle."""
  made = {}
  for number, stage in enumerate(bundle.STAGES):
    rng = np.random.default_rng(number)
    made[stage] = Weights(
      config={'stage': stage, 'model': {'strides': [2, 3]}},
      params={
        'net': {'layer': {'kernel': rng.normal(size=(3, 4)).astype('f4')}},
        'discriminators': {'kernel': np.ones(1000, np.float32)},
      },
      collections={'net': {'count': np.arange(4), 'initialized': np.bool_(1)}},
      contract_json=(
        contract.to_json() if stage in bundle.LANGUAGE_MODELS else None
      ),
    )
  made['kmeans'] = dataclasses.replace(made['kmeans'], params={'kmeans': {}})
  return made


@pytest.fixture(scope='session')
def tiny():
  """What the tests of this room share."""
  models = {stage: language_model(stage) for stage in CROPS}
  return types.SimpleNamespace(
    networks={'soundstream': codec(), **models},
    parallel_lm=parallel_lm(),
    contract=CONTRACT,
    stages=stages,
    specs=SPECS,
    crops=CROPS,
  )
