"""Fine-tuning of one stage: its config, and when it ends."""

import json
import time

import pytest

from musiclm_jax.finetuning import training
from musiclm_jax.finetuning.training import EarlyStop

CONFIG = {
  'stage': 'soundstream',
  'seed': 3,
  'data': {'batch_size': 64, 'crop_seconds': 2.4, 'eval_batches': 8},
  'model': {'num_layers': 2},
  'schedule': {'total_steps': 20_000, 'earlier': [[100, 200]]},
  'optimizer': {
    'lm': {'name': 'muon', 'learning_rate': 5e-3, 'warmup_steps': 500}
  },
  'training': {'accumulation': 4, 'ema_decay': 0.999},
}


def test_the_network_stays_and_its_training_is_short():
  tuned = training.config_of(CONFIG, steps=25, rate_scale=0.1, seed=7)
  assert tuned['model'] == CONFIG['model']
  assert tuned['seed'] == 7
  assert tuned['data'] == {**CONFIG['data'], 'batch_size': 16}
  assert tuned['training'] == {'accumulation': 1, 'ema_decay': 0.0}
  assert tuned['schedule'] == {
    'total_steps': 25,
    'log_every': 1,
    'eval_every': 3,
    'save_every': 3,
    'keep_every': 0,
    'keep_best': 'lowest eval_nll',
  }
  optimizer = tuned['optimizer']['lm']
  assert optimizer['name'] == 'muon'
  assert optimizer['learning_rate'] == pytest.approx(5e-4)
  assert optimizer['warmup_steps'] == 3
  assert CONFIG['schedule']['total_steps'] == 20_000, 'the given one stays'


def test_a_batch_of_an_accelerator_becomes_smaller():
  data = CONFIG['data'] | {'batch_size': 1024}
  tuned = training.config_of(
    CONFIG | {'data': data}, steps=1, rate_scale=1.0, seed=0
  )
  assert tuned['data']['batch_size'] == training.MAX_BATCH


def held_out(loss):
  return {'eval_nll': loss, 'eval_accuracy': 0.5}


def test_it_ends_after_three_evaluations_without_a_lower_loss():
  stop = EarlyStop({})
  found = []
  for step, loss in enumerate([4.0, 3.0, 3.5, 3.2], 1):
    found += [stop(10 * step - 1, {}), stop(10 * step, held_out(loss))]
  assert not any(found) and stop.reason == ''
  assert not stop(49, {})
  assert stop(50, held_out(3.0)), 'as low is not lower'
  assert stop.reason == 'patience'


def test_what_was_evaluated_before_an_interruption_counts():
  stop = EarlyStop({10: 3.0, 20: 3.1, 30: 3.2, 40: 3.3})
  assert not stop(30, {}), 'a later step, which is taken again, does not'
  assert stop(40, held_out(3.3))


def test_it_ends_in_time_and_never_without_a_limit():
  assert not EarlyStop({})(1, {})
  assert not EarlyStop({}, time.monotonic() + 60)(1, {})
  late = EarlyStop({}, time.monotonic())
  assert late(1, {}) and late.reason == 'time'


def test_losses_are_read_of_a_record_with_a_torn_line(tmp_path):
  assert training.held_out_losses(tmp_path) == {}
  rows = [
    json.dumps({'step': 1, 'loss': 2.0}),
    json.dumps({'step': 2, 'loss': 2.0, 'eval_nll': 1.5}),
    '{"step": 3, "lo',
    json.dumps({'step': 4, 'loss': 2.0, 'eval_nll': None}),
  ]
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(rows))
  assert training.held_out_losses(tmp_path) == {2: 1.5}
