"""Where the state lies, told at the start; the ten networks at paper size."""

import functools

import jax
import pytest
import ten_networks
from training_games import play

from musiclm_jax import stages
from musiclm_jax.contracts import sharding
from musiclm_jax.training import sharding_report
from musiclm_jax.training import state as states
from musiclm_jax.training.optimizer import make_optimizers


def described(stage, optimizer=None, **mesh):
  sizes = (mesh.get('data', 1), mesh.get('fsdp', 1), mesh.get('tensor', 1))
  config = ten_networks.paper_config(stage)
  optimizers = config.optimizer.to_dict()
  for kwargs in optimizers.values():
    kwargs['name'] = optimizer or kwargs['name']
  task = stages.build(config)
  players = make_optimizers(optimizers, players=task.losses(), total_steps=10)
  return states.abstract_state(
    functools.partial(states.init_state, task, players),
    ten_networks.abstract_batch(config),
    jax.sharding.AbstractMesh(sizes, sharding.MESH_AXES),
  )


@pytest.mark.parametrize(
  'stage', sorted(set(stages.STAGES) - ten_networks.FITS)
)
def test_fsdp_shards_nearly_all_parameters_and_their_statistics(stage):
  state = described(stage, fsdp=8)
  for tree in (state.params, state.opt_state):
    whole, own = sharding_report.held(tree)
    assert own < 1.02 / 8 * whole


def test_fsdp_shards_adafactors_momentum_and_muons():
  for optimizer in ('adafactor', 'muon'):
    whole, own = sharding_report.held(
      described('fine', optimizer, fsdp=8).opt_state
    )
    assert own < 1.02 / 8 * whole, optimizer


def test_the_table_has_every_parameter_its_spec_and_its_bytes():
  state = described('coarse', data=2, fsdp=4, tensor=2)
  heading, _, *rows = sharding_report.table(state).splitlines()
  assert heading.startswith('438,')
  assert 'data=2 x fsdp=4 x tensor=2: params 1.75 GB (' in heading
  (row,) = (row for row in rows if 'mlp/wide/kernel' in row)
  name, shape, *spec, size, unit = row.split()
  assert name == 'lm/transformer/layers/mlp/wide/kernel'
  assert shape == '24x1024x4096'
  assert spec == ['-,', 'fsdp,', 'tensor']
  assert float(size) == round(24 * 1024 * 4096 * 4 / 8e6, 1) and unit == 'MB'
  assert len(rows) == len(jax.tree.leaves(state.params))
  stacks = sharding_report.table(described('soundstream', fsdp=8))
  assert 'discriminators/WaveDiscriminator_*/Conv_*/bias x9' in stacks
  assert len(stacks.splitlines()) < 90


def test_on_one_device_the_start_is_one_line_and_the_table_a_file(
  tmp_path, capsys
):
  play('lm', tmp_path / 'w', schedule={'total_steps': 1})
  table = (tmp_path / 'w' / sharding_report.FILE).read_text()
  assert 'lm/embed/kernel' in table
  printed = capsys.readouterr().out.splitlines()
  assert table.splitlines()[0] in printed
  assert not any('lm/embed/kernel' in line for line in printed)
