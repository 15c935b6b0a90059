"""Files of VGGish's weights that are refused, and why."""

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.interop import vggish


def zeros():
  """Weights of nothing, without the memory that they would take."""
  found = {}
  for layer, (scope, _) in vggish.LAYERS.items():
    shape = vggish.KERNELS[layer]
    found[f'vggish/{scope}/weights'] = np.broadcast_to(np.float32(0), shape)
    found[f'vggish/{scope}/biases'] = np.zeros(shape[-1], np.float32)
  return found


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'vggish/fc2/weights': None}, 'vggish/fc2/weights is missing'),
    ({'vggish/conv1/weights': np.zeros((3, 3, 64, 1))}, 'another shape'),
    ({'vggish/conv1/biases': np.full(64, np.nan)}, 'not finite'),
  ],
)
def test_tensors_that_are_wrong_are_named(change, words):
  tensors = {k: v for k, v in (zeros() | change).items() if v is not None}
  with pytest.raises(UsageError, match=words):
    vggish.to_params(tensors, 'weights')


def test_other_weights_are_refused():
  with pytest.raises(UsageError, match='18 faults'):
    vggish.to_params({'encoder.weight': np.zeros(3)}, 'weights')


@pytest.mark.parametrize(
  ('name', 'content', 'words'),
  [
    ('weights.npz', b'no archive', 'cannot be read as weights'),
    ('weights.pth', b'no pickle', 'cannot be read as weights'),
    ('weights.safetensors', b'nothing', 'cannot be read as weights'),
    ('weights.ckpt', b'', 'expected a file that ends in'),
    ('absent.npz', None, 'there is no such file'),
  ],
)
def test_files_that_hold_no_weights_are_refused(tmp_path, name, content, words):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UsageError, match=words):
    vggish.read(path)
