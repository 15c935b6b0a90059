"""A checkpoint folder as a text tower: values, and what is refused."""

import math

import jax
import numpy as np
import pytest
from bert_checkpoints import CONFIG, SIZES, drawn_tensors, write_checkpoint
from safetensors.numpy import load_file

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.interop import bert
from musiclm_jax.mulan.towers import TextTower

QUERY = 'encoder.layer.1.attention.self.query.weight'


def reference(tensors, ids):
  """Devlin et al. 2019 in plain numpy, float64: [B, L] -> [B, L, D]."""
  tensors = {name: x.astype(np.float64) for name, x in tensors.items()}

  def norm(x, name):
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-12)
    return x * tensors[f'{name}.weight'] + tensors[f'{name}.bias']

  def dense(x, name):
    return x @ tensors[f'{name}.weight'].T + tensors[f'{name}.bias']

  tables = [
    tensors[f'embeddings.{name}_embeddings.weight']
    for name in ('word', 'position', 'token_type')
  ]
  length, heads = ids.shape[1], SIZES['num_heads']
  x = tables[0][ids] + tables[1][:length] + tables[2][0]
  x = norm(x, 'embeddings.LayerNorm')
  for layer in range(SIZES['num_layers']):
    at = f'encoder.layer.{layer}.'
    query, key, value = (
      dense(x, f'{at}attention.self.{name}').reshape(*ids.shape, heads, -1)
      for name in ('query', 'key', 'value')
    )
    logits = np.einsum('bthd,bshd->bhts', query, key)
    logits = logits / math.sqrt(query.shape[-1])
    logits = np.where((ids != 0)[:, None, None], logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    attended = np.einsum('bhts,bshd->bthd', weights, value).reshape(x.shape)
    attended = dense(attended, f'{at}attention.output.dense')
    x = norm(x + attended, f'{at}attention.output.LayerNorm')
    inner = dense(x, f'{at}intermediate.dense')
    inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
    x = norm(x + dense(inner, f'{at}output.dense'), f'{at}output.LayerNorm')
  return x


@pytest.fixture(scope='module')
def tensors():
  return drawn_tensors()


def test_a_loaded_tower_is_the_bert_of_its_checkpoint(tensors, tmp_path):
  ids = np.random.default_rng(1).integers(1, 30, (3, 9)).astype(np.int32)
  ids[1, 4:], ids[2, 7:] = 0, 0
  params, settings = bert.read(write_checkpoint(tmp_path / 'a', tensors), SIZES)
  assert settings == SIZES
  hidden, mask = reference(tensors, ids), (ids != 0)[..., None]
  tower = TextTower(**settings, pooling='mean')
  found = jax.jit(tower.apply)({'params': params}, ids)
  expected = (hidden * mask).sum(axis=1) / mask.sum(axis=1)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_names_of_other_releases_and_a_missing_config_make_no_difference(
  tensors, tmp_path
):
  """Prefix `bert.`, heads beside it, gamma and beta; sizes from shapes."""
  renamed = {
    'bert.'
    + name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace(
      'LayerNorm.bias', 'LayerNorm.beta'
    ): tensor
    for name, tensor in tensors.items()
  }
  renamed['cls.predictions.bias'] = np.zeros(30, np.float32)
  folder = write_checkpoint(tmp_path / 'a', renamed, config=None)
  plain, _ = bert.read(write_checkpoint(tmp_path / 'b', tensors))
  params, settings = bert.read(folder, SIZES)
  assert settings == SIZES
  jax.tree.map(np.testing.assert_array_equal, params, plain)


@pytest.mark.parametrize(
  'change, words',
  [
    ({QUERY: None}, f'1 missing: {QUERY}'),
    ({QUERY: (12, 11)}, f'{QUERY} (12, 11) instead of (12, 12)'),
    ({'encoder.spare': (2,)}, '1 unused: encoder.spare'),
    ({'embeddings.word_embeddings.weight': None}, '1 missing: embeddings.word'),
  ],
)
def test_tensors_that_do_not_fit_are_named_in_one_line(
  tensors, tmp_path, change, words
):
  spoiled = dict(tensors)
  for name, shape in change.items():
    spoiled.pop(name, None)
    if shape:
      spoiled[name] = np.zeros(shape, np.float32)
  folder = write_checkpoint(tmp_path / 'a', spoiled)
  with pytest.raises(UsageError) as error:
    bert.read(folder, SIZES)
  assert words in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(
  'config, tower, words',
  [
    # One layer more than there is, and one fewer.
    ({'num_hidden_layers': 3}, {}, '16 missing: encoder.layer.2.'),
    ({'num_hidden_layers': 1}, {}, '16 unused: encoder.layer.1.'),
    ({}, {'num_layers': 4}, '--config.model.text.num_layers=2'),
    (
      {},
      {'embed_dim': 24, 'num_heads': 6},
      '--config.model.text.embed_dim=12 --config.model.text.num_heads=3',
    ),
    ({'hidden_act': 'gelu_new'}, {}, "hidden_act='gelu_new'"),
    ({'model_type': 'roberta'}, {}, "model_type='roberta'"),
    ({'num_attention_heads': 5}, {}, '5 heads do not divide'),
    ({'hidden_size': 'wide'}, {}, 'a size is no number'),
  ],
)
def test_a_checkpoint_of_another_network_says_what_to_change(
  tensors, tmp_path, config, tower, words
):
  folder = write_checkpoint(tmp_path / 'a', tensors, CONFIG | config)
  with pytest.raises(UsageError) as error:
    bert.read(folder, SIZES | tower)
  assert words in str(error.value) and '\n' not in str(error.value)


def test_damaged_and_missing_files_are_named(tensors, tmp_path):
  folder = write_checkpoint(tmp_path / 'a', tensors, lines=31)
  with pytest.raises(UsageError, match=r'31 pieces .* embeddings for 30'):
    bert.read(folder, SIZES)
  (folder / 'vocab.txt').unlink()
  with pytest.raises(UsageError, match=r'vocab\.txt.* is missing'):
    bert.read(folder, SIZES)
  (folder / 'config.json').write_text('{')
  with pytest.raises(UsageError, match='no JSON object'):
    bert.read(folder, SIZES)
  with open(folder / 'model.safetensors', 'r+b') as file:
    file.truncate(100)
  with pytest.raises(UsageError, match='cannot be read'):
    bert.read(folder, SIZES)
  with pytest.raises(UsageError, match=r'has no model\.safetensors'):
    bert.read(tmp_path / 'nowhere', SIZES)


def test_half_precision_is_read_as_float32_and_nan_is_refused(
  tensors, tmp_path
):
  halves = {name: x.astype(np.float16) for name, x in tensors.items()}
  folder = write_checkpoint(tmp_path / 'a', halves)
  params, _ = bert.read(folder, SIZES)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype('f4')}
  broken = load_file(folder / 'model.safetensors')
  broken[QUERY][0, 0] = np.nan
  with pytest.raises(UsageError, match=QUERY):
    bert.read(write_checkpoint(folder, broken), SIZES)
