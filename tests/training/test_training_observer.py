"""What is seen of a run, and that it changes nothing of it."""

import dataclasses
import functools
import io
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_games
from training_games import CodecGame, LMGame, codec_batch, lm_batch, play

from musiclm_jax.contracts import terminal
from musiclm_jax.contracts.errors import STOPPED, UsageError
from musiclm_jax.contracts.task import BatchInfo, HealthCheck
from musiclm_jax.training import checkpoint, observer, speed
from musiclm_jax.training.observer import describe, differences, profiled_steps
from musiclm_jax.training.speed import Clock


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


class Time:
  """A clock that is set by hand."""

  def __init__(self):
    self.seconds = 100.0

  def __call__(self):
    return self.seconds

  def passes(self, seconds):
    self.seconds += seconds


def test_goodput_and_pace_count_what_is_no_step():
  now = Time()
  clock = Clock(now)
  with clock.spending('compile'):
    now.passes(10.0)
  clock.begin(1)
  for _ in range(4):  # steps of 2 s, all of the wait lost at first
    with clock.waiting():
      now.passes(1.0)
    now.passes(2.0)
  with clock.timing_step():
    now.passes(2.0)
  with clock.spending('save'):
    now.passes(6.0)
  figures = clock.figures(5, 15)
  assert figures == pytest.approx(
    {
      'steps_per_second': 4 / 14,
      'data_share': 4 / 14,
      'seconds_left': 10 * 20 / 4,
      'goodput': 10 / 30,
      'seconds_compile': 10.0,
      'seconds_data': 4.0,
      'seconds_save': 6.0,
    }
  )
  for wait in (1.5, 5.0):  # of which 2 s run beside a step
    with clock.waiting():
      now.passes(wait)
  figures = clock.figures(7, 15)
  assert figures['data_share'] == pytest.approx(3 / 6.5)
  assert figures['steps_per_second'] == pytest.approx(2 / 6.5)


def test_the_line_has_rates_in_the_tasks_unit_mfu_and_goodput():
  now = Time()
  clock = Clock(now)
  now.passes(10.0)
  clock.begin(1)
  now.passes(30.0)
  scale = speed.Scale(512.0, 'audio seconds', peak_share=0.25)
  figures = scale.speed(clock.figures(61, 3661))
  assert figures['audio_seconds_per_second'] == pytest.approx(1024)
  line = scale.line(61, 3661, {'loss': 2.5, 'eval_nll': 3.0}, figures)
  assert line == (
    'step 61/3661  loss 2.5000  eval_nll 3.0000  2.00 steps/s  '
    '1,024 audio seconds/s  MFU 50.0 %  ETA 30:00  goodput 100 %'
  )


def test_mfu_is_model_flops_over_the_peak_of_all_chips(monkeypatch):
  from musiclm_jax.contracts import sharding
  from musiclm_jax.training import state as states

  task, batch = LMGame(), lm_batch(0, 0)
  mesh = sharding.make_mesh()
  init = functools.partial(states.init_state, task, {})
  state = states.abstract_state(init, batch, mesh)
  batch_info = speed.batch_info_of(task, batch)
  assert (batch_info.amount, batch_info.unit) == (8, 'examples')
  assert speed.scale_of(task, state, batch).peak_share is None
  chip = speed.Chip('toy', 1e6, 0, 0)
  monkeypatch.setattr(speed, 'chip_of', lambda device: chip)
  # Two products of 16 x 8 a token; the first one's input needs no gradient.
  flops = 8 * 12 * (2 + 3) * 2 * 16 * 8
  share = speed.scale_of(task, state, batch).peak_share
  assert share == pytest.approx(flops / 1e6 / mesh.size)


def test_a_long_wait_is_told_while_it_lasts_and_a_short_one_is_not():
  told = []
  with observer.Watchdog(told.append, 0.4) as dog:
    for _ in range(25):
      with dog.watching():
        time.sleep(0.02)
    assert not told
    with dog.watching():
      while len(told) < 2:
        time.sleep(0.02)
  assert told[0] > 0.4 and told[1] > 0.8


@dataclasses.dataclass(frozen=True)
class Loud(CodecGame):
  """Its codebook collapses, its critic is mute, and one can listen to it."""

  sample_rate: int = 8000

  def _codec(self, params, collections, batch, rng, step):
    loss, (moved, metrics) = super()._codec(
      params, collections, batch, rng, step
    )
    return loss, (moved, metrics | {'perplexity_level_1': jnp.float32(1.0)})

  def _critic(self, params, collections, batch, rng, step):
    loss, rest = super()._critic(params, collections, batch, rng, step)
    return 2.0 + 0.0 * loss, rest

  def batch_info(self, batch):
    health_checks = (
      HealthCheck('collapsed codebook', 'perplexity_level_1', 8),
      HealthCheck('silent discriminator', 'grad_norm_critic', 0.0),
    )
    return BatchInfo(
      len(batch['waveform']) * 12 / 8000, 'audio seconds', health_checks
    )

  def audio_samples(self, params, collections, batch):
    return {'reconstruction': self._play(params, collections, batch)[2][:2]}


def test_faults_planted_in_a_run_are_warned_of_once_and_recorded(
  tmp_path, monkeypatch, capsys
):
  players = ('codec', 'critic', 'statistics')
  monkeypatch.setitem(
    training_games.GAMES, 'loud', (Loud(), codec_batch, players)
  )
  plan = {'total_steps': 160, 'log_every': 20, 'eval_every': 80}
  plan['save_every'] = 80
  play('loud', tmp_path, schedule=plan, profiled=range(3, 5))
  out = capsys.readouterr().out
  assert out.count('perplexity_level_1 is 1.0 where 8 codes') == 1
  assert out.count('grad_norm_critic stays at 0 since step 20') == 1
  assert 'audio seconds/s' in out and 'goodput' in out
  assert 'compiled again' not in out  # nor did anything else in 160 steps
  warnings = [row.get('warnings') for row in lines(tmp_path / 'metrics.jsonl')]
  both = ['collapsed codebook: perplexity_level_1']
  both.append('silent discriminator: grad_norm_critic')
  assert warnings == [None] * 5 + [both] + [None] * 2
  figures = lines(tmp_path / 'speed.jsonl')
  assert [row['step'] for row in figures] == list(range(20, 161, 20))
  assert all('seconds_compile' in row for row in figures)
  events = b''.join(p.read_bytes() for p in tmp_path.glob('events.*'))
  assert events.count(b'sample_2/reconstruction') == 2
  assert events.count(b'RIFF') == 4  # two examples, two evaluations
  assert b'warnings/collapsed' in events and b'speed/goodput' in events
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_a_step_that_compiles_again_and_a_stalled_input_are_told(
  tmp_path, monkeypatch, capsys
):
  def ragged(seed, step):
    if seed == 0 and step == 5:
      time.sleep(0.6)
    batch = lm_batch(seed, step)
    return batch | {'tokens': batch['tokens'][:, : 13 - (step in (7, 8))]}

  monkeypatch.setattr(observer, 'PATIENCE_SECONDS', 0.2)
  monkeypatch.setitem(training_games.GAMES, 'lm', (LMGame(), ragged, ('lm',)))
  plan = {'total_steps': 12, 'save_every': 0, 'eval_every': 0, 'log_every': 4}
  play('lm', tmp_path, schedule=plan)
  out = capsys.readouterr().out
  assert 'step 6 has waited for its data' in out
  assert out.count('compiled the program again') == 1
  assert 'step 8 compiled' in out
  assert 'batch/tokens is int32[8,12], not int32[8,13]; every' in out


def test_a_run_whose_output_nobody_reads_any_more_is_saved_and_ends(
  tmp_path, monkeypatch
):
  class Closed(io.StringIO):
    def write(self, text):
      if 'step 2/' in text:
        raise BrokenPipeError
      return super().write(text)

  monkeypatch.setattr(sys, 'stdout', Closed())
  # Of the process itself, which is that of the other tests.
  monkeypatch.setattr(terminal, 'let_go', lambda: None)
  plan = {'total_steps': 9, 'log_every': 1, 'eval_every': 0, 'save_every': 0}
  with pytest.raises(SystemExit) as stop:
    play('lm', tmp_path, schedule=plan)
  assert stop.value.code == STOPPED
  assert checkpoint.read(tmp_path).step == 2


class Weak(LMGame):
  def init(self, rng, batch):
    params, collections = super().init(rng, batch)
    # A number of Python is weakly typed; what a step returns is not.
    return {'lm': {**params['lm'], 'spare': jnp.asarray(0.5)}}, collections


def test_a_weakly_typed_parameter_compiles_no_second_program(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setitem(training_games.GAMES, 'weak', (Weak(), lm_batch, ('lm',)))
  play('weak', tmp_path, schedule={'total_steps': 3, 'eval_every': 0})
  assert 'compiled the program again' not in capsys.readouterr().out


def test_every_way_in_which_arguments_differ_is_named():
  device = jax.devices()[0]
  here = jax.device_put(np.zeros(3, np.float32), device)
  old = {'batch': {'x': here}, 'state': {'w': here, 'v': here, 'u': 0.5}}
  new = {
    'batch': {},
    'state': {'w': np.zeros(3, np.int32), 'v': here, 'u': here[0]},
  }
  assert differences(describe(old), describe(new)) == (
    'batch/x is nothing, not float32[3], state/u is float32[], not '
    'weakly typed float32[], state/w is int32[3], not float32[3]'
  )
  assert 'what they were' in differences(describe(old), describe(old))


@pytest.mark.parametrize('text', ['5:2', '0:3', '3', 'a:b', '3:99', '1:2:3'])
def test_a_window_that_is_none_is_refused_in_one_line(text):
  with pytest.raises(UsageError, match=r'FIRST:LAST.*<= 20, such as'):
    profiled_steps(text, 20)
  assert profiled_steps('10:15', 20) == range(10, 16)
