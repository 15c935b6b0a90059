"""The loop: record, stop, go on, refuse; in one process."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest
import training_games
from flax.traverse_util import unflatten_dict
from training_games import play

from musiclm_jax.cascade import networks
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import checkpoint, export, workdir
from musiclm_jax.training.state import flatten, start_from
from musiclm_jax.training.stop_request import StopRequest

STILL = {'optimizer': {'learning_rate': 0.0}}


def record(path):
  return (path / 'metrics.jsonl').read_bytes()


def lines(path):
  return [json.loads(line) for line in record(path).splitlines()]


def assert_equal(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """An uninterrupted run of each game: (state, path)."""
  folder = tmp_path_factory.mktemp('whole')
  return {
    game: (play(game, folder / game, ema_decay=0.9), folder / game)
    for game in ('lm', 'codec')
  }


def test_the_record_has_one_object_a_logged_step(whole):
  _, path = whole['lm']
  rows = lines(path)
  assert [row['step'] for row in rows] == [5, 10, 15, 20]
  assert all(
    {'loss', 'grad_norm', 'refused_steps'} <= row.keys() for row in rows
  )
  assert [('eval_loss' in row) for row in rows] == [False, True, False, True]
  rows = lines(whole['codec'][1])
  assert all('grad_norm_critic' in row and 'loss_critic' in row for row in rows)


def test_what_is_read_pairs_weights_and_codebooks_as_the_evaluation_did(
  whole, tmp_path
):
  state, path = whole['codec']
  task, make, _ = training_games.GAMES['codec']
  export.write(tmp_path / 'x', state, config={'stage': 'codec'})
  exported = networks.read(tmp_path / 'x', 'codec')
  stored = networks.read(path, 'codec')
  assert_equal(stored.params, jax.device_get(state.ema_params))
  assert_equal(stored.collections, jax.device_get(state.collections))

  def error(params, collections):
    rows = [
      task.evaluate(params, collections, make(1, k))['error'] for k in range(2)
    ]
    return float(np.mean(rows))

  said = lines(path)[-1]['eval_error']
  other = error(state.params, state.collections)
  assert abs(other - said) > 1e-4 * said, 'the average differs'
  np.testing.assert_allclose(
    error(stored.params, stored.collections), said, rtol=1e-5
  )
  np.testing.assert_allclose(
    error(exported.params, exported.collections), said, rtol=0.01
  )


def test_an_eval_step_and_the_last_step_are_logged_whatever_log_every(tmp_path):
  plan = {'total_steps': 7, 'log_every': 0, 'eval_every': 3, 'save_every': 0}
  play('lm', tmp_path / 'w', schedule=plan)
  assert [row['step'] for row in lines(tmp_path / 'w')] == [3, 6, 7]
  assert checkpoint.read(tmp_path / 'w').step == 7


def test_a_run_ends_where_it_is_enough_and_a_later_one_goes_on(
  whole, tmp_path, capsys
):
  asked = {}

  def enough(step, held_out):
    asked[step] = dict(held_out)
    return step == 12

  state = play('lm', tmp_path / 'w', enough=enough, ema_decay=0.9)
  assert int(state.step) == checkpoint.read(tmp_path / 'w').step == 12
  assert capsys.readouterr().out.endswith('done: 12 steps\n')
  assert [step for step, held_out in asked.items() if held_out] == [10]
  assert 'eval_loss' in asked[10]
  again = play('lm', tmp_path / 'w', ema_decay=0.9)
  assert_equal(again, whole['lm'][0])


@pytest.mark.parametrize('game', ['lm', 'codec'])
def test_a_run_in_two_parts_equals_one_bit_for_bit(game, whole, tmp_path):
  state, path = whole[game]
  # cosine decays towards total_steps, so stop early by poisoning nothing but
  # by removing what came after step 10.
  shutil.copytree(path, tmp_path / 'w')
  for step in ('15', '20'):
    shutil.rmtree(tmp_path / 'w' / 'checkpoints' / step)
  again = play(game, tmp_path / 'w', ema_decay=0.9)
  assert_equal(again, state)
  assert record(tmp_path / 'w') == record(path)


def test_a_torn_line_and_lines_beyond_the_checkpoint_are_forgotten(
  whole, tmp_path
):
  _, path = whole['lm']
  shutil.copytree(path, tmp_path / 'w')
  shutil.rmtree(tmp_path / 'w' / 'checkpoints' / '20')
  with open(tmp_path / 'w' / 'metrics.jsonl', 'ab') as file:
    file.write(b'{"step": 25, "lo\xff')
  play('lm', tmp_path / 'w', ema_decay=0.9)
  assert record(tmp_path / 'w') == record(path)


@pytest.mark.parametrize('damage', ['truncated', 'flipped', 'missing'])
def test_a_damaged_checkpoint_is_skipped_with_a_line(
  damage, whole, tmp_path, capsys
):
  state, path = whole['codec']
  shutil.copytree(path, tmp_path / 'w')
  newest = tmp_path / 'w' / 'checkpoints' / '20' / 'state'
  files = [f for f in newest.rglob('*') if f.is_file() and '/d/' in str(f)]
  for file in files:
    if damage == 'truncated':
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == 'flipped':
      data = bytearray(file.read_bytes())
      data[len(data) // 2] ^= 0xFF
      file.write_bytes(data)
    else:
      file.unlink()
  assert checkpoint.read(tmp_path / 'w').step == 15
  again = play('codec', tmp_path / 'w', ema_decay=0.9)
  assert 'skipping the damaged checkpoint' in capsys.readouterr().out
  assert_equal(again, state)
  assert record(tmp_path / 'w') == record(path)
  assert checkpoint.read(tmp_path / 'w').step == 20


def test_where_all_checkpoints_are_damaged_nothing_is_overwritten(
  whole, tmp_path
):
  _, path = whole['lm']
  shutil.copytree(path, tmp_path / 'w')
  for file in (tmp_path / 'w' / 'checkpoints').rglob('manifest.ocdbt'):
    file.write_bytes(b'')
  with pytest.raises(UsageError, match='can be read'):
    checkpoint.read(tmp_path / 'w')
  with pytest.raises(UsageError, match='can be read'):
    play('lm', tmp_path / 'w', ema_decay=0.9)
  assert record(tmp_path / 'w') == record(path)


def test_a_finished_run_says_so_and_stays(whole, tmp_path, capsys):
  _, path = whole['lm']
  before = record(path)
  play('lm', path, ema_decay=0.9)
  assert 'done' in capsys.readouterr().out
  assert record(path) == before


def test_inference_reads_averages_and_copies_codebooks(whole):
  """Mistake 37: what was trained is what is loaded."""
  state, path = whole['codec']
  read = checkpoint.read(path)
  assert read.step == 20
  assert read.config['stage'] == 'codec'
  assert_equal(read.params, jax.device_get(state.ema_params))
  assert_equal(read.collections, jax.device_get(state.collections))
  assert read.params['statistics'] == {}


def test_a_workdir_of_another_config_is_refused_by_field(whole):
  _, path = whole['lm']
  with pytest.raises(UsageError, match=r'model\.width=8, not 9'):
    play('lm', path, width=9, ema_decay=0.9)


def test_another_mesh_is_the_same_workdir(whole):
  _, path = whole['lm']
  config = workdir.read_config(path)
  for fsdp in (1, 4, 0):
    workdir.describe(path, config | {'mesh': {'fsdp': fsdp}}, None)
  workdir.describe(path, config, None)


def test_a_longer_schedule_continues(whole, tmp_path):
  shutil.copytree(whole['lm'][1], tmp_path / 'w')
  play('lm', tmp_path / 'w', ema_decay=0.9, schedule={'total_steps': 25})
  assert [row['step'] for row in lines(tmp_path / 'w')] == [5, 10, 15, 20, 25]


def test_two_runs_in_one_workdir_are_refused(tmp_path):
  with (
    workdir.claim(tmp_path / 'w'),
    pytest.raises(UsageError, match='another run'),
    workdir.claim(tmp_path / 'w'),
  ):
    pass


def test_a_refused_start_leaves_no_workdir(tmp_path):
  with pytest.raises(UsageError, match='accumulation=2 for a fit'):
    play('fit', tmp_path / 'deep' / 'w', accumulation=2)
  with pytest.raises(UsageError, match='accumulation=3'):
    play('lm', tmp_path / 'deep' / 'w', accumulation=3)
  assert not (tmp_path / 'deep').exists()
  (tmp_path / 'file').write_text('')
  with pytest.raises(UsageError, match='file'):
    play('lm', tmp_path / 'file' / 'w')


def of(*weights):
  """What starts a training from weights."""
  return lambda state: start_from(state, *weights)


def test_training_starts_from_given_weights(whole, tmp_path):
  read = checkpoint.read(whole['codec'][1])
  given = read.params, read.collections
  plan = {'total_steps': 1}
  still = {'learning_rate': 0.0}
  state = play(
    'codec', tmp_path / 'w', begin=of(*given), schedule=plan, optimizer=still
  )
  assert_equal(jax.device_get(state.params), given[0])
  spoiled = {**given[0], 'critic': {}}
  with pytest.raises(UsageError, match='params/critic'):
    play('codec', tmp_path / 'v', begin=of(spoiled, given[1]))
  assert not (tmp_path / 'v').exists()


def test_a_player_that_is_not_given_starts_fresh_and_averages_from_the_start(
  whole, tmp_path
):
  read = checkpoint.read(whole['codec'][1])
  part = {'codec': read.params['codec']}
  fresh = play('codec', tmp_path / 'w', schedule={'total_steps': 1}, **STILL)
  state = play(
    'codec',
    tmp_path / 'u',
    begin=of(part, read.collections, ['critic']),
    schedule={'total_steps': 1},
    ema_decay=0.5,
    **STILL,
  )
  assert_equal(jax.device_get(state.params['codec']), part['codec'])
  assert_equal(state.params['critic'], fresh.params['critic'])
  jax.tree.map(  # a mean of equal values, up to rounding
    lambda *two: np.testing.assert_allclose(*two, rtol=1e-6),
    state.ema_params,
    state.params,
  )


def test_a_given_part_is_started_from_once_and_the_rest_stays_random(tmp_path):
  plan, still = {'total_steps': 1}, {'learning_rate': 0.0}
  random = play('lm', tmp_path / 'w', schedule=plan, optimizer=still)
  names = flatten(jax.device_get(random.params))
  name, *others = sorted(names)
  for value, steps in ((0.5, 1), (0.25, 2)):  # the second run resumes
    part = unflatten_dict({name: np.full_like(names[name], value)}, sep='/')
    started = play(
      'lm',
      tmp_path / 'v',
      begin=of(part, None),
      schedule={'total_steps': steps},
      optimizer=still,
    )
    assert int(started.step) == steps
    found = flatten(jax.device_get(started.params))
    np.testing.assert_array_equal(found[name], 0.5)
    for other in others:
      np.testing.assert_array_equal(found[other], names[other])
  spare = {**part, 'spare': {'kernel': np.zeros(3)}}
  with pytest.raises(UsageError, match='params/spare/kernel'):
    play('lm', tmp_path / 'u', begin=of(spare, None))


def test_held_out_data_that_fails_is_refused_before_the_first_step(
  tmp_path, monkeypatch
):
  def failing():
    raise UsageError('validation has no captions')
    yield

  made = training_games.stream
  monkeypatch.setattr(
    training_games,
    'stream',
    lambda *given: dataclasses.replace(made(*given), evaluation=failing),
  )
  with pytest.raises(UsageError, match='no captions'):
    play('lm', tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


@pytest.fixture
def in_terminal():
  """SIGINT as a terminal's job has it; one in the background ignores it."""
  old = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, old)


def test_ctrl_c_saves_as_sigterm_does_and_says_what_it_was(
  whole, tmp_path, capfd, in_terminal
):
  happens = {7: lambda: os.kill(os.getpid(), signal.SIGINT)}
  with pytest.raises(SystemExit) as stopped:
    play('lm', tmp_path / 'w', ema_decay=0.9, happens=happens)
  assert stopped.value.code == 130
  assert checkpoint.read(tmp_path / 'w').step in (7, 8)
  state = play('lm', tmp_path / 'w', ema_decay=0.9)
  assert_equal(state, whole['lm'][0])
  assert 'Ctrl-C again ends at once' in capfd.readouterr().err
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_at_once(monkeypatch, in_terminal):
  ended = []
  monkeypatch.setattr(os, '_exit', ended.append)
  with StopRequest() as stop:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert stop.asked(1) and not ended
    signal.raise_signal(signal.SIGINT)
  assert ended == [130]


def test_what_ignores_ctrl_c_goes_on_doing_so():
  old = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with StopRequest() as stop:
      signal.raise_signal(signal.SIGINT)
      assert not stop.asked(1)
  finally:
    signal.signal(signal.SIGINT, old)
