"""Files of `torch.save` are read without PyTorch, and run no code."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from musiclm_jax.interop import torch_file

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'torch_files.npz'


@pytest.mark.parametrize('kind', ['zipped', 'pickled'])
def test_both_formats_hold_what_was_saved(kind, tmp_path):
  path = tmp_path / 'weights.pth'
  with np.load(FIXTURE) as file:
    path.write_bytes(file[kind].tobytes())
    found = torch_file.read(path)
    names = [name for name in file.files if name.startswith('tensors/')]
    assert len(found) == len(names) == 5
    for name in names:
      ours = found[name.removeprefix('tensors/')]
      np.testing.assert_array_equal(ours, file[name])
      assert ours.dtype == file[name].dtype


class Trap:
  """Unpickled, it would call what it names."""

  def __reduce__(self):
    return print, ('code of the file ran',)


def test_a_file_cannot_run_code(tmp_path, capsys):
  path = tmp_path / 'trap.pth'
  path.write_bytes(pickle.dumps(Trap(), protocol=2))
  with pytest.raises(pickle.UnpicklingError, match='no part of weights'):
    torch_file.read(path)
  assert capsys.readouterr().out == ''


@pytest.mark.parametrize('kind', ['zipped', 'pickled'])
def test_a_file_that_was_cut_is_no_file_of_weights(kind, tmp_path):
  path = tmp_path / 'cut.pth'
  with np.load(FIXTURE) as file:
    path.write_bytes(file[kind].tobytes()[:-200])
  with pytest.raises((*torch_file.DAMAGED, ValueError, OSError, EOFError)):
    torch_file.read(path)
