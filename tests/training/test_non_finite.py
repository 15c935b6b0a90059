"""Steps that are not finite: named, refused, undone once, then the end."""

import functools
import json
import signal
import socket

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from training_games import CodecGame, codec_batch, play

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import checkpoint
from musiclm_jax.training import state as states
from musiclm_jax.training.non_finite import unfinite
from musiclm_jax.training.step import make_step

PLAN = {'total_steps': 40, 'log_every': 4}


def record(path):
  return (path / 'metrics.jsonl').read_bytes()


def test_a_run_goes_back_once_then_stops_and_keeps_good_parameters(
  tmp_path, capsys
):
  with pytest.raises(UsageError, match='again after going back once at step 1'):
    play('lm', tmp_path / 'w', poisoned=range(5, 100), schedule=PLAN)
  out = capsys.readouterr().out
  assert out.count('step 6 was refused') == 1
  assert 'metric/loss is not finite' in out
  assert 'going on from the parameters of step 5' in out
  rows = [json.loads(row) for row in record(tmp_path / 'w').splitlines()]
  assert [row['refused_steps'] for row in rows] == [0, 3, 5, 7, 11, 15, 19]
  assert [row.get('rolled_back') for row in rows] == [None] * 4 + [16] * 3
  assert rows[-1]['loss'] is None
  params = checkpoint.read(tmp_path / 'w').params
  assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


def test_without_a_checkpoint_to_go_back_to_the_run_stops(tmp_path):
  with pytest.raises(UsageError, match='no checkpoint from before step 1 '):
    play('lm', tmp_path / 'w', poisoned=range(100))


def die():
  raise KeyboardInterrupt


def ask_to_stop():
  signal.raise_signal(signal.SIGTERM)


def test_going_back_is_the_same_however_often_the_run_is_interrupted(tmp_path):
  """Steps 6 to 16 are refused, 16 is undone to 5, and 17 is good again."""
  options = {'poisoned': range(5, 16), 'schedule': PLAN, 'ema_decay': 0.9}
  whole = play('lm', tmp_path / 'whole', **options)
  assert int(whole.rolled_back) == 16 and int(whole.refused) == 11
  path = tmp_path / 'cut'
  for step, event, error in (
    (13, die, KeyboardInterrupt),
    (14, ask_to_stop, SystemExit),  # step 15, where a checkpoint would be due
    (15, ask_to_stop, SystemExit),  # which goes back
    (18, die, KeyboardInterrupt),
  ):
    with pytest.raises(error):
      play('lm', path, happens={step: event}, **options)
  again = play('lm', path, **options)
  jax.tree.map(np.testing.assert_array_equal, again, whole)
  assert record(path) == record(tmp_path / 'whole')


class BrokenCritic(CodecGame):
  """Its critic's loss is finite, the gradient of its bias is not."""

  def _critic(self, params, collections, batch, rng, step):
    loss, rest = super()._critic(params, collections, batch, rng, step)
    bias = jax.tree.leaves(params['critic'])[0].ravel()[0]
    return loss + jnp.sqrt(jnp.maximum(bias, 0.0)), rest


def verdict(task, batch):
  optimizers = dict.fromkeys(('codec', 'critic', 'statistics'), optax.sgd(0.1))
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  batch = sharding.put_batch(batch, mesh)
  init = functools.partial(states.init_state, task, optimizers)
  state = nn.unbox(init(batch))
  _, metrics = jax.jit(make_step(task, optimizers))(state, batch)
  assert int(metrics['refused_steps']) == 1
  return unfinite(batch, metrics, state.params)


def test_network_and_tensor_of_a_gradient_are_named():
  found = verdict(BrokenCritic(), codec_batch(0, 0))
  assert len(found) == 1 and found[0].startswith('gradient/critic/'), found


def test_the_batch_is_named_before_what_follows_from_it():
  batch = codec_batch(0, 0)
  batch['waveform'][3, 2] = np.nan
  found = verdict(CodecGame(), batch)
  assert found[0] == 'batch/waveform'
  assert 'metric/loss' in found


@pytest.mark.soak
def test_two_processes_go_back_together(start_game, tmp_path):
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  options = ('total_steps=20', f'poisoned={list(range(5, 16))}')
  pair = [
    start_game(
      'lm',
      tmp_path / 'two',
      *options,
      JAX_COORDINATOR_ADDRESS=f'localhost:{port}',
      JAX_NUM_PROCESSES='2',
      JAX_PROCESS_ID=str(index),
    )
    for index in range(2)
  ]
  one = start_game('lm', tmp_path / 'one', *options)
  said = [process.communicate(timeout=300) for process in (*pair, one)]
  assert [p.returncode for p in (*pair, one)] == [0] * 3, said
  assert 'going on from the parameters of step 5' in said[0][0]
  assert 'step' not in said[1][0]
  rows = [
    [json.loads(row) for row in record(tmp_path / name).splitlines()]
    for name in ('one', 'two')
  ]
  for left, right in zip(*rows, strict=True):
    assert left['refused_steps'] == right['refused_steps']
    assert left.get('rolled_back') == right.get('rolled_back')
    if left['loss'] is not None:
      np.testing.assert_allclose(left['loss'], right['loss'], rtol=1e-5)
