"""VGGish against its PyTorch twin, from both public layouts of weights."""

from pathlib import Path

import jax
import numpy as np
import pytest

from musiclm_jax.evaluation import embedders
from musiclm_jax.evaluation.vggish import Vggish
from musiclm_jax.interop import vggish

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'vggish.npz'


def drawn(shape, seed):
  """As experiments/parity/vggish.py draws weights, with its own code."""
  index = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(seed)
  for _ in range(2):
    index = (index ^ (index >> 16)) * np.uint32(0x45D9F3B)
  index ^= index >> 16
  uniform = index.astype(np.float64) / 2**32 - 0.5
  fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 3600
  return (uniform * np.sqrt(24 / fan_in)).astype(np.float32).reshape(shape)


@pytest.fixture(scope='module')
def mirror():
  """The twin's weights as the mirror's file has them."""
  layers = {module: layer for layer, (_, module) in vggish.LAYERS.items()}
  found = {}
  with np.load(FIXTURE) as file:
    for k, name in enumerate(file['names'].tolist()):
      module, kind = name.rsplit('.', 1)
      shape = vggish.KERNELS[layers[module]]
      shape = (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]
      shape = shape if kind == 'weight' else shape[:1]
      found[name] = drawn(shape, 1000 * k)
  return found


def in_tf_layout(mirror):
  found = {}
  for scope, module in vggish.LAYERS.values():
    kernel = mirror[f'{module}.weight']
    axes = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
    found[f'vggish/{scope}/weights'] = kernel.transpose(axes)
    found[f'vggish/{scope}/biases'] = mirror[f'{module}.bias']
  return found


@pytest.mark.parametrize('layout', ['mirror', 'tf'])
def test_parity_with_the_twin(layout, mirror, equals_twin):
  """Mistake 42: a ReLU at the end would make a third of it zero."""
  tensors = mirror if layout == 'mirror' else in_tf_layout(mirror)
  params = vggish.to_params(tensors, layout)
  with np.load(FIXTURE) as file:
    ours = jax.jit(Vggish().apply)({'params': params}, file['input'])
    equals_twin(f'VGGish, {layout} layout: VGG', ours, file['output'])
    assert sum(x.size for x in jax.tree.leaves(params)) == file['parameters']
    assert (file['output'] < 0).any()


def test_a_file_of_weights_is_an_embedder(mirror, tmp_path):
  path = tmp_path / 'vggish.npz'
  np.savez(path, **in_tf_layout(mirror))
  embedder = embedders.open_vggish(path, embedders.WINDOWINGS['vggish'], 2)
  assert embedder.name == 'vggish' and embedder.dimension == 128
  assert len(embedder.sha256) == 64 and embedder.label == ''
