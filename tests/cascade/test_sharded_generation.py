"""Generation on eight devices makes what one device makes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
STREAMS = ('semantic', 'acoustic', 'waveform')


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  out = tmp_path_factory.mktemp('devices') / 'made.npz'
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8'
  paths = os.pathsep.join(map(str, (HERE, HERE.parent, HERE.parents[1])))
  subprocess.run(
    [sys.executable, HERE / 'generation_on_devices.py', out],
    env=os.environ | {'PYTHONPATH': paths, 'XLA_FLAGS': flags},
    check=True,
  )
  return np.load(out)


@pytest.mark.parametrize('stream', STREAMS)
def test_device_count_and_batch_size_change_no_token(found, stream):
  eight = found[f'eight/{stream}']
  for first in (0, 6, 14):
    pair = found[f'one {first}/{stream}']
    np.testing.assert_array_equal(eight[first : first + 2], pair)


@pytest.mark.parametrize('stream', STREAMS)
def test_order_changes_no_token(found, stream):
  expected = found[f'eight/{stream}'][found['order']]
  np.testing.assert_array_equal(found[f'mixed/{stream}'], expected)


@pytest.mark.parametrize('stream', STREAMS)
def test_pieces_that_do_not_fill_the_devices_are_what_they_were(found, stream):
  made = found[f'nine/{stream}']
  np.testing.assert_array_equal(made, found[f'eight/{stream}'][:9])


@pytest.mark.parametrize('stream', STREAMS)
def test_what_one_device_has_kept_is_not_taken_on_eight(found, stream):
  """Its rows are others; a call that is resumed there makes them anew."""
  made = found[f'resumed/{stream}']
  np.testing.assert_array_equal(made, found[f'nine/{stream}'])


def test_a_model_over_two_devices_each_computes_the_same(found):
  np.testing.assert_allclose(
    found['logits of tensor'], found['logits of one'], atol=1e-4
  )
  same = found['tensor/acoustic'] == found['eight/acoustic']
  # Rounding may turn a draw, and all that follows in its piece.
  assert np.mean(same) > 0.9


def test_each_device_holds_its_part_of_the_layers_alone(found):
  kernel, part = found['kernel'], found['part']
  assert part.prod() * 2 == kernel.prod()
