"""The model inside the package, which plays where no other is named."""

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest

from musiclm_jax import MusicLM, UsageError
from musiclm_jax.cascade import bundle
from musiclm_jax.contracts import ownership

PACKAGE = bundle.SHIPPED.parent
MEGABYTE = 1_000_000


@pytest.fixture(scope='module')
def model():
  return MusicLM.load()


def test_it_plays_and_a_sentence_matters(model):
  texts = ['slow piano', 'fast techno with drums']
  music = model.generate(texts, seconds=1.0, seed=0)
  assert music.waveform.shape == (2, 24_000)
  loudness = np.sqrt(np.mean(np.square(music.waveform), axis=1))
  assert np.all(loudness > 3e-3) and np.all(np.abs(music.waveform) <= 1.0)
  levels = model.sampling.mulan_levels
  assert levels >= 1, 'prompts would not be used'
  one, other = music.tokens['mulan'][:, :levels]
  assert np.any(one != other)


def test_it_is_small_and_complete(model):
  sizes = {
    name: (bundle.SHIPPED / name).stat().st_size
    for name in ownership.files(bundle.SHIPPED)
  }
  assert sum(sizes.values()) <= 60 * MEGABYTE
  assert max(sizes.values()) <= 16 * MEGABYTE
  assert 'melody' in model.bundle.stages
  assert model.bundle.dtype == 'bfloat16'


def test_a_part_that_was_changed_is_refused(tmp_path, monkeypatch):
  copy = tmp_path / 'shipped'
  shutil.copytree(bundle.SHIPPED, copy)
  monkeypatch.setattr(bundle, 'SHIPPED', copy)
  MusicLM.load()
  weights = copy / 'coarse/weights.safetensors'
  data = bytearray(weights.read_bytes())
  data[-1] ^= 1
  weights.write_bytes(data)
  with pytest.raises(UsageError, match=r'coarse/weights\.safetensors is damag'):
    MusicLM.load()


def names_of(path: Path) -> set[str]:
  """What a module imports, calls by a bare name, and reads of objects."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      found.add(node.module.split('.')[0])
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
      found.add(f'{node.func.id}()')
    elif isinstance(node, ast.Attribute):
      found.add(f'.{node.attr}')
  return found


def test_no_file_is_run_as_code_and_no_archive_unpacked():
  forbidden = {
    *('pickle', 'marshal', 'shelve', 'dill', 'cloudpickle', 'joblib'),
    *('eval()', 'exec()', '.extract', '.extractall', '.unpack_archive'),
  }
  # Published PyTorch weights: an unpickler that knows tensors alone.
  reader = PACKAGE / 'interop/torch_file.py'
  for path in PACKAGE.rglob('*.py'):
    allowed = {'pickle'} if path == reader else set()
    assert not names_of(path) & (forbidden - allowed), path
