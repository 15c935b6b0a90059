"""Towers against PyTorch twins, their sizes, padding."""

import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.mulan.embedder import MulanEmbedder
from musiclm_jax.mulan.model import make_mulan
from musiclm_jax.mulan.task import MulanTask
from musiclm_jax.mulan.towers import AST, ResNet, TextTower

ROOT = Path(__file__).parents[2]


def _twin(name):
  """A fixture's arrays, and its settings and weights by their own names."""
  with np.load(ROOT / 'tests' / 'fixtures' / f'{name}.npz') as file:
    arrays = {key: file[key] for key in file.files}
  parts = {'settings/': {}, 'weights/': {}}
  for key, value in arrays.items():
    for prefix, part in parts.items():
      if key.startswith(prefix):
        part[key.removeprefix(prefix)] = value
  settings = {key: int(value) for key, value in parts['settings/'].items()}
  return arrays, settings, parts['weights/']


def _transformer(weights, settings, names):
  """A twin's layers as the stacked parameters of our Transformer."""
  heads, dim = settings['num_heads'], settings['embed_dim']
  shapes = {
    'attention/query': (dim, heads, -1),
    'attention/key': (dim, heads, -1),
    'attention/value': (dim, heads, -1),
    'attention/out': (heads, -1, dim),
    'mlp/wide': (dim, -1),
    'mlp/narrow': (-1, dim),
  }

  def stacked(theirs, shape=(-1,)):
    return np.stack(
      [
        weights[theirs.format(layer)].T.reshape(shape)
        for layer in range(settings['num_layers'])
      ]
    )

  layers = {'attention': {}, 'mlp': {}}
  for ours, theirs in names.items():
    kernel = theirs + '.weight'
    if ours not in shapes:
      layers[ours] = {
        'scale': stacked(kernel),
        'bias': stacked(theirs + '.bias'),
      }
      continue
    sublayer, name = ours.split('/')
    bias = shapes[ours][1:] if ours != 'attention/out' else (dim,)
    layers[sublayer][name] = {
      'kernel': stacked(kernel, shapes[ours]),
      'bias': stacked(theirs + '.bias', bias),
    }
  return layers


def _bottleneck(weights, prefix):
  """Parameters and statistics of one block of the twin."""
  parts = [('narrow', '1'), ('middle', '2'), ('wide', '3')]
  convs = {ours: f'{prefix}.conv{k}' for ours, k in parts}
  norms = {f'{ours}_norm': f'{prefix}.bn{k}' for ours, k in parts}
  if f'{prefix}.downsample.0.weight' in weights:
    convs['shortcut'] = f'{prefix}.downsample.0'
    norms['shortcut_norm'] = f'{prefix}.downsample.1'
  params = {}
  for ours, theirs in convs.items():
    kernel = weights[f'{theirs}.weight'].transpose(2, 3, 1, 0)
    params[ours] = {'kernel': kernel if ours == 'middle' else kernel[0, 0]}
  params |= {ours: _affine(weights, theirs) for ours, theirs in norms.items()}
  return params, {
    ours: _statistics(weights, theirs) for ours, theirs in norms.items()
  }


def _affine(weights, name):
  return {'scale': weights[f'{name}.weight'], 'bias': weights[f'{name}.bias']}


def _statistics(weights, name):
  return {
    'mean': weights[f'{name}.running_mean'],
    'var': weights[f'{name}.running_var'],
  }


def test_resnet_parity_with_torchvision_layout(equals_twin):
  arrays, _, weights = _twin('resnet')
  blocks = tuple(int(n) for n in arrays['stage_blocks'])
  stem = weights['conv1.weight'].transpose(2, 3, 1, 0)
  params = {'stem': {'kernel': stem}, 'stem_norm': _affine(weights, 'bn1')}
  statistics = {'stem_norm': _statistics(weights, 'bn1')}
  for stage, count in enumerate(blocks):
    for block in range(count):
      name = f'stage{stage}_block{block}'
      params[name], statistics[name] = _bottleneck(
        weights, f'layer{stage + 1}.{block}'
      )
  resnet = ResNet(width=int(arrays['width']), stage_blocks=blocks)
  variables = {'params': params, 'batch_stats': statistics}
  output = jax.jit(resnet.apply)(variables, arrays['input'])
  equals_twin('ResNet, torchvision layout', output, arrays['output'])
  output, moved = jax.jit(
    lambda v, x: resnet.apply(v, x, training=True, mutable=['batch_stats'])
  )(variables, arrays['input'])
  equals_twin(
    'ResNet in training, torchvision layout', output, arrays['output_training']
  )
  np.testing.assert_allclose(
    moved['batch_stats']['stem_norm']['mean'],
    arrays['stem_mean_after'],
    atol=1e-5,
  )


def test_text_tower_parity_with_bert(equals_twin):
  arrays, settings, weights = _twin('bert')
  layer = 'encoder.layer.{}.'
  params = {
    'token': weights['embeddings.word_embeddings.weight'],
    'position': weights['embeddings.position_embeddings.weight'],
    'segment': weights['embeddings.token_type_embeddings.weight'],
    'norm': _affine(weights, 'embeddings.LayerNorm'),
    'transformer': {
      'layers': _transformer(
        weights,
        settings,
        {
          'attention/query': layer + 'attention.self.query',
          'attention/key': layer + 'attention.self.key',
          'attention/value': layer + 'attention.self.value',
          'attention/out': layer + 'attention.output.dense',
          'attention_norm': layer + 'attention.output.LayerNorm',
          'mlp/wide': layer + 'intermediate.dense',
          'mlp/narrow': layer + 'output.dense',
          'mlp_norm': layer + 'output.LayerNorm',
        },
      )
    },
  }
  for pooling, expected in (('cls', 'output'), ('mean', 'output_mean')):
    tower = TextTower(**settings, pooling=pooling)
    output = jax.jit(tower.apply)({'params': params}, arrays['text_ids'])
    equals_twin(f'Text tower, {pooling}: BertModel', output, arrays[expected])


def test_audio_transformer_parity_with_ast(equals_twin):
  arrays, settings, weights = _twin('audio_transformer')
  projection = weights['embeddings.patch_embeddings.projection.weight']
  layer = 'layers.{}.'
  params = {
    'extra_tokens': np.concatenate(
      [
        weights['embeddings.cls_token'][0],
        weights['embeddings.distillation_token'][0],
      ]
    ),
    'position': weights['embeddings.position_embeddings'][0],
    'patch': {
      'kernel': projection[:, 0].transpose(1, 2, 0),
      'bias': weights['embeddings.patch_embeddings.projection.bias'],
    },
    'transformer': {
      'layers': _transformer(
        weights,
        settings,
        {
          'attention/query': layer + 'attention.q_proj',
          'attention/key': layer + 'attention.k_proj',
          'attention/value': layer + 'attention.v_proj',
          'attention/out': layer + 'attention.o_proj',
          'attention_norm': layer + 'layernorm_before',
          'mlp/wide': layer + 'mlp.fc1',
          'mlp/narrow': layer + 'mlp.fc2',
          'mlp_norm': layer + 'layernorm_after',
        },
      ),
      'final_norm': _affine(weights, 'layernorm'),
    },
  }
  tower = AST(**settings)
  output = jax.jit(tower.apply)({'params': params}, arrays['input'])
  equals_twin('AST: ASTModel', output, arrays['output'])


def test_a_residual_block_begins_as_the_identity():
  resnet = ResNet(width=4, stage_blocks=(1, 1))
  x = jnp.ones((2, 40, 16))
  params = nn.unbox(jax.jit(resnet.init)(jax.random.key(0), x))['params']
  for name in ('stage0_block0', 'stage1_block0'):
    np.testing.assert_array_equal(params[name]['wide_norm']['scale'], 0.0)


@pytest.mark.parametrize('pooling', ['cls', 'mean'])
def test_padding_of_a_text_changes_nothing(pooling):
  tower = TextTower(
    vocab_size=20,
    max_length=12,
    num_layers=2,
    embed_dim=16,
    num_heads=2,
    mlp_dim=32,
    pooling=pooling,
  )
  short = jnp.array([[2, 7, 9, 3]])
  padded = jnp.pad(short, ((0, 0), (0, 8)))
  params = nn.unbox(jax.jit(tower.init)(jax.random.key(0), padded))
  broken = jax.tree.map(lambda leaf: leaf, params)
  # NaN where only padding looks: its position and its own embedding.
  table = broken['params']['position']
  broken['params']['position'] = table.at[4:].set(jnp.nan)
  broken['params']['token'] = broken['params']['token'].at[0].set(jnp.nan)
  run = jax.jit(tower.apply)
  np.testing.assert_allclose(run(broken, padded), run(params, short), atol=1e-6)


def test_order_of_words_matters():
  tower = TextTower(
    vocab_size=20,
    max_length=8,
    num_layers=1,
    embed_dim=16,
    num_heads=2,
    mlp_dim=32,
  )
  ids = jnp.array([[2, 7, 9, 3], [2, 9, 7, 3]])
  params = nn.unbox(jax.jit(tower.init)(jax.random.key(0), ids))
  # At BERT's initial scale positions are faint.
  params['params']['position'] *= 50.0
  output = jax.jit(tower.apply)(params, ids)
  assert np.abs(output[0] - output[1]).max() > 1e-3


def test_a_text_longer_than_the_positions_or_an_uneven_width_is_refused():
  tower = TextTower(vocab_size=20, max_length=3, num_layers=1, embed_dim=8)
  ids = jnp.zeros((1, 4), jnp.int32)
  with pytest.raises(UsageError, match='max_length'):
    jax.eval_shape(tower.init, jax.random.key(0), ids)
  with pytest.raises(UsageError, match='that 12 heads divide, got 8'):
    jax.eval_shape(tower.init, jax.random.key(0), ids[:, :3])


def _config(size):
  spec = importlib.util.spec_from_file_location(
    'mulan_config', ROOT / 'configs' / 'mulan.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(size)


# ResNet-50 without its classifier has 23,508,032 parameters with three input
# channels; one channel saves 2 * 7 * 7 * 64. BERT-base without its pooler has
# 108,891,648. AST has 1,188 patches of 10 s here, so 24 positions fewer than
# the published 86,187,264 (10.24 s, without its classifier).
@pytest.mark.parametrize(
  ('size', 'audio', 'text'),
  [
    ('paper', 23_501_760, 108_891_648),
    ('paper_ast', 86_187_264 - 24 * 768, 108_891_648),
    ('small', 5_889_504, 4_241_408),
    ('tiny', 504_816, 926_464),
  ],
)
def test_sizes_are_the_papers(size, audio, text):
  config = _config(size)
  task = MulanTask(MulanEmbedder(make_mulan(**config.model), **config.loss))
  samples = round(config.data.crop_seconds * 24_000)
  shapes = {
    'waveform': jax.ShapeDtypeStruct((2, samples), jnp.float32),
    'text_ids': jax.ShapeDtypeStruct(
      (2, 1, config.data.text_length), jnp.int32
    ),
    'group': jax.ShapeDtypeStruct((2,), jnp.int32),
  }
  params, _ = jax.eval_shape(task.init, jax.random.key(0), shapes)
  params = nn.unbox(params)['mulan']
  counts = {
    name: sum(leaf.size for leaf in jax.tree.leaves(params[name]))
    for name in ('audio_tower', 'text_tower')
  }
  assert counts == {'audio_tower': audio, 'text_tower': text}
  assert task.mulan.embed_dim == 128
  for name in ('audio_head', 'text_head'):
    assert params[name]['kernel'].shape[-1] == 128


@pytest.mark.parametrize(
  ('size', 'frames', 'mels'),
  [('paper', 1000, 64), ('paper_ast', 1000, 128), ('tiny', 250, 64)],
)
def test_ten_seconds_are_a_thousand_frames(size, frames, mels):
  """Mistake 39: no mel, no log, no 10 s windows."""
  model = make_mulan(**_config(size).model)
  spectrogram = jax.eval_shape(
    model.log_mel, jax.ShapeDtypeStruct((1, 160_000), jnp.float32)
  )
  assert spectrogram.shape == (1, frames, mels)


def test_features_are_standardised_by_batch_before_the_heads():
  model = make_mulan(
    audio_tower='resnet',
    audio={'width': 4, 'stage_blocks': (1,)},
    text={
      'vocab_size': 20,
      'max_length': 4,
      'num_layers': 1,
      'embed_dim': 8,
      'num_heads': 1,
      'mlp_dim': 8,
    },
    num_mels=16,
    norm_features=True,
  )
  batch = (
    jax.random.normal(jax.random.key(0), (6, 8000)),
    jax.random.randint(jax.random.key(1), (6, 4), 1, 20),
  )
  variables = nn.unbox(jax.jit(model.init)(jax.random.key(2), *batch))

  (_, text, _), moved = jax.jit(
    functools.partial(model.apply, training=True, mutable=['batch_stats'])
  )(variables, *batch, rngs={'dropout': jax.random.key(3)})
  features = jax.jit(
    functools.partial(model.apply, method=lambda m, ids: m.text_tower(ids))
  )(variables, batch[1])
  normal = features - features.mean(axis=0)
  normal /= np.sqrt(features.var(axis=0) + 1e-5)
  head = variables['params']['text_head']
  expected = normal @ head['kernel'] + head['bias']
  expected /= np.linalg.norm(expected, axis=1, keepdims=True)
  np.testing.assert_allclose(text, expected, atol=1e-4)
  assert {'audio_norm', 'text_norm'} < set(moved['batch_stats'])


def test_unknown_names_are_refused_with_the_known_ones():
  with pytest.raises(UsageError, match='resnet, ast'):
    make_mulan(audio_tower='vgg', audio={}, text={})
  with pytest.raises(ValueError, match='tiny, small, paper'):
    _config('huge')
