"""Rehearsals: a real compilation for a TPU slice, and its arithmetic."""

import json
import runpy
import sys
from pathlib import Path

import jax
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.rehearsal.collectives import Links
from musiclm_jax.rehearsal.rehearsal import (
  Memory,
  bound,
  plan,
  rehearse_and_suggest,
  suggest,
  with_changes,
)
from musiclm_jax.rehearsal.topology import open_topology, spellings

CONFIGS = Path(__file__).parents[2] / 'configs'
HARDWARE = Path(__file__).parents[2] / 'experiments/hardware/run.py'


@pytest.fixture(scope='module')
def result(absent_tpu):
  """A small language model on four chips of v5e, from its JSON."""
  config = runpy.run_path(str(CONFIGS / 'semantic.py'))['get_config']('tiny')
  config.model.update(embed_dim=64, mlp_dim=128, num_heads=1, dtype='bfloat16')
  config.data.crop_seconds = 0.4
  config.optimizer.lm.name = 'adamw'
  config.mesh.fsdp = 2
  found = rehearse_and_suggest(config.to_dict(), open_topology('v5e:2x2'))
  return json.loads(json.dumps(found))


def test_a_small_program_compiles_for_four_chips_and_fits(result):
  assert result['fits'] and result['suggestion'] is None
  assert result['topology'] == 'v5e-4'
  assert 0 < result['argument_bytes'] < result['peak_hbm_bytes'] < 1e9
  assert result['hbm_limit_bytes'] == int(15.75 * 2**30)


def test_max_mfu_is_what_its_terms_make_of_it(result):
  times = {k: result[f't_{k}'] for k in ('compute', 'hbm', 'ici')}
  assert max(times, key=times.__getitem__) == result['bound_by']
  peak = result['peak_flops'] * result['chips']
  expected = result['model_flops'] / (peak * max(times.values()))
  assert result['max_mfu'] == pytest.approx(expected)
  assert times['compute'] == pytest.approx(result['program_flops'] / peak)
  said = sum(one['seconds'] for one in result['collectives'])
  assert times['ici'] == pytest.approx(said)


def test_collectives_span_the_axes_of_the_mesh(result):
  axes = {one['axis'] for one in result['collectives']}
  assert axes and axes <= {'data', 'fsdp', 'data+fsdp'}
  assert all(one['bytes'] > 0 for one in result['collectives'])


def test_slower_links_never_raise_the_bound(result):
  ideal = result['model_flops'] / (result['peak_flops'] * result['chips'])
  times = {'compute': result['t_compute'], 'hbm': result['t_hbm']}
  bounds = [
    bound(ideal, times | {'ici': slower * result['t_ici']})[0]
    for slower in (0.5, 1, 2, 1e3, 1e6)
  ]
  assert bounds == sorted(bounds, reverse=True)
  assert bounds[-1] < bounds[0]


def test_halved_links_take_twice_the_time_and_a_line_twice_a_ring():
  chips = [(x, y) for x in range(4) for y in range(4)]
  ring, line = Links(1e9, (True, True)), Links(1e9, (False, False))
  passed = 16e9 * 15 / 16
  assert ring.seconds('all-gather', 16e9, chips) == passed / 4e9
  assert line.seconds('all-gather', 16e9, chips) == passed / 2e9
  assert ring.seconds('all-reduce', 16e9, chips) == 2 * passed / 4e9
  assert ring.seconds('all-gather', 16e9, chips[:4]) == 16e9 * 3 / 4 / 2e9
  halved = Links(5e8, (True, True))
  assert halved.seconds('all-reduce', 16e9, chips) == passed / 1e9


def test_refusals_tell_their_figures():
  used = Memory.of_refusal(
    'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.11G '
    'of 15.75G hbm. Exceeded hbm capacity by 4.36G.'
  )
  required = Memory.of_refusal(
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (381.47G) exceeds available HBM (30.75G).'
  )
  assert (used.peak, used.limit) == (round(20.11 * 2**30), 15.75 * 2**30)
  assert required.peak == round(381.47 * 2**30)
  assert Memory.of_refusal('INTERNAL: no reason') is None


def test_a_batch_that_is_too_large_gets_the_least_change_that_fits():
  config = {
    'model': {'remat': 'none'},
    'data': {'batch_size': 1024},
    'training': {'accumulation': 1},
    'mesh': {'fsdp': 1},
  }

  def try_out(changed):
    parts = changed['training']['accumulation']
    size = 4e9 + 0.1e9 * changed['data']['batch_size'] / parts
    return {
      'fits': size <= 16e9,
      'peak_hbm_bytes': size,
      'max_mfu': 0.5,
      'bound_by': 'compute',
    }

  refused = try_out(config) | {
    'hbm_limit_bytes': 16e9,
    'batch_bytes': 1e9,
    'parameter_bytes': 2e9,
    'mesh': {'data': 4, 'fsdp': 1, 'tensor': 1},
  }
  found = suggest(config, refused, try_out, say=lambda _: None)
  assert found['changes'].keys() == {
    'mesh.fsdp',
    'model.remat',
    'training.accumulation',
  }
  changed = with_changes(config, found['changes'])
  assert try_out(changed)['fits'] and changed['data']['batch_size'] == 1024
  assert config['training']['accumulation'] == 1  # the given one stays
  # A network without parameters has none to spread.
  found = suggest(
    config, refused | {'parameter_bytes': 0}, try_out, say=lambda _: None
  )
  assert found['changes'].keys() == {'model.remat', 'training.accumulation'}
  # Microbatches are no help where the batch itself is too large.
  found = suggest(
    config, refused | {'batch_bytes': 17e9}, try_out, say=lambda _: None
  )
  assert 'training.accumulation' not in found['changes']
  assert found['changes']['data.batch_size'] < 120


def test_a_larger_batch_is_only_as_large_as_needed():
  larger_batch = runpy.run_path(str(HARDWARE))['larger_batch']
  row = {'fits': True, 'batch_size': 1024, 't_compute': 5.0, 't_hbm': 1.0}
  assert larger_batch(row | {'max_mfu': 0.36, 't_ici': 11.0}) == 4096
  assert larger_batch(row | {'max_mfu': 0.7, 't_ici': 1.0}) == 1024


def test_slices_have_the_names_of_the_cloud():
  assert (
    spellings().items()
    >= {
      'v4-8': 'v4:2x2x1',
      'v5e-16': 'v5e:4x4',
      'v5e-256': 'v5e:16x16',
      'v5p-2048': 'v5p:8x8x16',
      'v6e-256': 'v6e:16x16',
    }.items()
  )


@pytest.mark.parametrize('name', ['v5e-257', 'h100', 'v5e:16x16x2', ''])
def test_a_wrong_topology_lists_the_known_ones(name):
  with pytest.raises(UsageError, match='v5e-256'):
    open_topology(name)


def test_without_libtpu_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'libtpu', None)
  with pytest.raises(UsageError, match=r'musiclm_jax\[tpu\]'):
    open_topology('v5e-256')


def test_a_batch_that_does_not_divide_is_refused_in_words():
  pytest.importorskip('libtpu', reason='needs the [tpu] extra')
  config = runpy.run_path(str(CONFIGS / 'semantic.py'))['get_config']('tiny')
  config.data.batch_size = 6
  with pytest.raises(UsageError, match=r'batch of 6 .* a multiple of 4'):
    plan(config.to_dict(), open_topology('v5e:2x2').devices)


def test_microbatches_are_not_proposed_to_a_fit():
  """The loop refuses them, so a rehearsal must."""
  config = runpy.run_path(str(CONFIGS / 'kmeans.py'))['get_config']('tiny')
  config.training.accumulation = 2
  with pytest.raises(UsageError, match='for a fit'):
    plan(config.to_dict(), jax.devices())
