"""Exports: what was learned in a file, and trainings that go on from it."""

import functools
import itertools
import json

import jax
import numpy as np
import optax
import pytest
from training_games import PLAN, play

from musiclm_jax.contracts.errors import STOPPED, UsageError
from musiclm_jax.training import checkpoint, export
from musiclm_jax.training.optimizer import learning_rate_schedule
from musiclm_jax.training.state import flatten

ABOUT = {
  'config': {'stage': 'codec', 'training': {'ema_decay': 0.5}},
  'contract_json': '{"a": 1}',
  'files': {'vocab.txt': '[PAD]\nnaïve\n'},
}


@pytest.fixture(scope='module')
def state(tmp_path_factory):
  return play('codec', tmp_path_factory.mktemp('w') / 'w', ema_decay=0.5)


@pytest.mark.parametrize('part_mb', [None, 0.001])
def test_an_export_holds_all_that_was_learned_in_bfloat16(
  state, part_mb, tmp_path
):
  path = tmp_path / 'x.safetensors'
  written = export.write(path, state, **ABOUT, part_mb=part_mb)
  assert sorted(tmp_path.iterdir()) == sorted(written)
  if part_mb:
    assert len(written) > 2
    assert all(file.stat().st_size <= 1000 for file in written)
  found = export.read(path)
  assert (found.step, found.config) == (20, ABOUT['config'])
  assert found.contract_json == ABOUT['contract_json']
  assert found.files == ABOUT['files']
  for kind in ('params', 'ema_params', 'collections'):
    mine, theirs = (flatten(getattr(each, kind)) for each in (found, state))
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
      whole = np.asarray(theirs[name])
      assert array.dtype == whole.dtype, name
      np.testing.assert_allclose(array, whole, rtol=2**-8)
  assert found.params['statistics'] == {}, 'a player without arrays stays'
  assert sum(file.stat().st_size for file in written) < 4500


def test_an_export_replaces_an_older_one_with_all_of_its_parts(state, tmp_path):
  path = tmp_path / 'x'
  export.write(path, state, **ABOUT, part_mb=0.001)
  export.check_out(path)
  export.write(path, state, **ABOUT, part_mb=0.002)
  assert export.read(path).step == 20
  export.write(path, state, **ABOUT)
  assert [file.name for file in tmp_path.iterdir()] == ['x']
  (tmp_path / 'mine').write_text('of a user')
  with pytest.raises(UsageError, match=r'mine. is no export'):
    export.check_out(tmp_path / 'mine')
  with pytest.raises(UsageError, match='it is a folder'):
    export.check_out(tmp_path)


def test_a_damaged_export_is_refused_in_a_line(state, tmp_path):
  path = tmp_path / 'x'
  _, second, *_ = export.write(path, state, **ABOUT, part_mb=0.001)
  assert export.is_export(path)
  second.rename(tmp_path / 'aside')
  with pytest.raises(UsageError, match=r'look for x\.2-of-'):
    export.read(path)
  (tmp_path / 'aside').rename(second)
  second.write_bytes(second.read_bytes()[:-1])
  with pytest.raises(UsageError, match=r"'.*/x' is damaged .*: copy it again"):
    export.read(path)
  assert not export.is_export(tmp_path / 'nowhere')
  assert not export.is_export(tmp_path)


def test_a_training_goes_on_from_an_export(tmp_path):
  """With the batches, the noise and the rates of the steps that follow."""
  plan = {'total_steps': 30}
  kwargs = {'schedule': plan, 'optimizer': {'warmup_steps': 0}}
  path = tmp_path / 'x'
  config = {'stage': 'lm', 'training': {'ema_decay': 0.0}}
  play('lm', tmp_path / 'whole', **kwargs)

  def at_end(state):
    export.write(path, state, config=config)

  with pytest.raises(SystemExit) as stopped:
    play(
      'lm',
      tmp_path / 'first',
      seconds_left=functools.partial(next, itertools.chain([99] * 14, [0])),
      at_end=at_end,
      **kwargs,
    )
  assert stopped.value.code == STOPPED
  given = export.read(path)
  assert given.step == 15
  assert checkpoint.read(tmp_path / 'first').step == 15, 'it is saved as well'
  last = play(
    'lm',
    tmp_path / 'second',
    begin=functools.partial(export.begin, export=given),
    first_step=given.step,
    at_end=at_end,
    **kwargs,
  )
  assert int(last.step) == 30 and export.read(path).step == 30
  rows = {
    name: {row['step']: row for row in read_rows(tmp_path / name)}
    for name in ('whole', 'first', 'second')
  }
  assert rows['first'].keys() == {5, 10, 15}
  assert rows['second'].keys() == {20, 25, 30}
  for step, row in rows['first'].items():
    assert row['loss'] == rows['whole'][step]['loss']
  for step, row in rows['second'].items():  # bfloat16 and moments apart
    np.testing.assert_allclose(
      row['loss'], rows['whole'][step]['loss'], rtol=1e-3
    )


def test_an_export_of_all_steps_becomes_a_workdir(state, tmp_path):
  export.write(tmp_path / 'x', state, **ABOUT)
  given = export.read(tmp_path / 'x')
  play(
    'codec',
    tmp_path / 'v',
    begin=functools.partial(export.begin, export=given),
    first_step=given.step,
    ema_decay=0.5,
  )
  read = checkpoint.read(tmp_path / 'v')
  assert read.step == PLAN['total_steps']
  mine, theirs = flatten(read.params), flatten(given.ema_params)
  assert mine.keys() == theirs.keys()
  for name, array in mine.items():
    np.testing.assert_array_equal(array, theirs[name])


def test_moments_begin_at_zero_and_rates_where_they_were(state, tmp_path):
  export.write(tmp_path / 'x', state, **ABOUT)
  given = export.read(tmp_path / 'x')
  fresh = play('codec', tmp_path / 'u', schedule={'total_steps': 0})
  with pytest.raises(UsageError, match=r'ema_decay as it was, 0\.5'):
    export.begin(fresh, given)
  averaged = fresh.replace(ema_params=jax.tree.map(np.copy, fresh.params))
  begun = export.begin(averaged, given)
  assert int(begun.step) == 20
  rates = optax.tree.get_all_with_path(
    begun.opt_state,
    'count',
    lambda path, _: path[-1].tuple_name == 'ScaleByScheduleState',
  )
  assert [int(count) for _, count in rates] == [20] * 3
  moments = optax.tree.get_all_with_path(
    begun.opt_state,
    'count',
    lambda path, _: path[-1].tuple_name == 'ScaleByAdamState',
  )
  assert [int(count) for _, count in moments] == [0] * 3


@pytest.mark.parametrize('name', ['constant', 'cosine', 'inverse_sqrt'])
def test_rates_warm_up_again_to_where_they_would_be(name):
  numbers = {'learning_rate': 0.1, 'warmup_steps': 4, 'total_steps': 100}
  whole = learning_rate_schedule(name, **numbers)
  again = learning_rate_schedule(name, **numbers, first_step=50)
  for k in range(4):
    np.testing.assert_allclose(again(50 + k), whole(50 + k) * (k + 1) / 4)
  for step in (54, 70, 99):
    assert again(step) == whole(step)


def read_rows(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]
