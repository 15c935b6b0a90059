"""Files of PANNs' weights: as they are published, and such that are refused."""

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.interop import panns, weights_file

SMALL = {'channels': (2, 3), 'embed_dim': 4}


def tensors():
  """Weights of a network of two narrow blocks."""
  rng = np.random.default_rng(0)
  found = {}
  for name, shape in panns.shapes(**SMALL).items():
    found[name] = rng.uniform(0.5, 1, shape).astype(np.float32)
    if '.bn' in f'.{name}' and name.endswith('.weight'):
      norm = name.removesuffix('.weight')
      found[f'{norm}.running_mean'] = rng.normal(size=shape)
      found[f'{norm}.running_var'] = rng.uniform(0.5, 1, shape)
      found[f'{norm}.num_batches_tracked'] = np.array(7)
  found['logmel_extractor.melW'] = np.zeros((513, 64))
  return found


def test_a_norm_is_folded_into_its_convolution():
  given = tensors()
  params = panns.to_params(given, 'weights', **SMALL)
  layer = params['conv_block2_conv1']
  assert layer['kernel'].shape == (3, 3, 2, 3)
  rng = np.random.default_rng(1)
  x = rng.normal(size=(3, 3, 2))
  kernel = given['conv_block2.conv1.weight'].transpose(2, 3, 1, 0)
  norm = {
    part: given[f'conv_block2.bn1.{part}']
    for part in ('weight', 'bias', 'running_mean', 'running_var')
  }
  plain = np.einsum('hwi,hwio->o', x, kernel) - norm['running_mean']
  plain = plain / np.sqrt(norm['running_var'] + 1e-5) * norm['weight']
  folded = np.einsum('hwi,hwio->o', x, layer['kernel']) + layer['bias']
  np.testing.assert_allclose(folded, plain + norm['bias'], rtol=1e-5)


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'fc1.weight': None}, 'fc1.weight is missing'),
    ({'bn0.running_var': None}, 'bn0.running_var is missing'),
    ({'fc1.weight': np.zeros((3, 4))}, 'another shape'),
    ({'conv_block1.bn2.bias': np.full(2, np.nan)}, 'not finite'),
  ],
)
def test_tensors_that_are_wrong_are_named(change, words):
  given = {k: v for k, v in (tensors() | change).items() if v is not None}
  with pytest.raises(UsageError, match=words):
    panns.to_params(given, 'weights', **SMALL)


def test_files_that_hold_no_weights_are_refused(tmp_path):
  with pytest.raises(UsageError, match='there is no such file'):
    panns.read(tmp_path / 'absent.pth')
  path = tmp_path / 'weights.npz'
  np.savez(path, **tensors())
  with pytest.raises(UsageError, match='another shape'):
    panns.read(path)
  found, sha256 = weights_file.read(path, 'panns', 'advice')
  assert found.keys() == tensors().keys() and len(sha256) == 64
