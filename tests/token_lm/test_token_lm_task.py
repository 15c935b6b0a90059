"""The token LM: sizes, losses, level dropout, overfitting."""

import functools
import importlib.util
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_token_lms import STAGES, K, made, make_batch, make_task

from musiclm_jax.token_lm.language_model import LanguageModel
from musiclm_jax.token_lm.layout import make_layout
from musiclm_jax.token_lm.model import make_lm
from musiclm_jax.token_lm.task import (
  TokenLMTask,
  draw_num_levels,
  with_wrong_levels,
)

CONFIGS = Path(__file__).parents[2] / 'configs'


@functools.cache
def _nll(stage):
  task, params = made(stage)
  compiled = jax.jit(
    lambda batch, count=None: task.lm.nll(params, {}, batch, count)
  )
  return lambda batch, count=None: np.asarray(compiled(batch, count))


@functools.cache
def _logits(stage):
  task, params = made(stage)
  compiled = jax.jit(lambda batch: task.lm.logits(params, {}, batch))
  return lambda batch: np.asarray(compiled(batch))


@pytest.mark.parametrize(
  'stage,millions', [('semantic', 430.0), ('coarse', 438.4), ('fine', 453.0)]
)
def test_paper_size_has_the_papers_parameters(stage, millions):
  spec = importlib.util.spec_from_file_location(stage, CONFIGS / f'{stage}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config('paper')
  layout = make_layout(
    stage, crop_seconds=config.data.crop_seconds, **config.layout
  )
  task = TokenLMTask(
    LanguageModel(make_lm(layout, **config.model)), **config.loss
  )
  seconds = config.data.crop_seconds
  batch = {
    'mulan': jnp.zeros((1, 12), int),
    'semantic': jnp.zeros((1, round(25 * seconds)), int),
    'acoustic': jnp.zeros((1, round(50 * seconds), 12), int),
  }
  params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  assert math.isclose(count, millions * 1e6, rel_tol=1e-3)
  assert config.loss.all_levels_probability == 1.0  # strictly the paper


@pytest.mark.parametrize('stage', STAGES)
def test_only_predicted_tokens_enter_the_loss(stage):
  """Mistake 32: conditioning tokens counted in the loss's denominator."""
  task, params = made(stage)
  batch = make_batch()
  loss, (collections, metrics) = jax.jit(task.losses()['lm'])(
    params, {}, batch, jax.random.key(0), jnp.int32(0)
  )
  nll = _nll(stage)(batch)
  predicted = task.lm.layout.predicted
  assert nll.shape == (3, predicted.num_frames * predicted.num_levels)
  assert collections == {}
  np.testing.assert_allclose(loss, nll.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['nll'], loss, rtol=1e-6)


@pytest.mark.parametrize('stage', STAGES)
def test_evaluation_is_per_example_and_per_level(stage):
  task, params = made(stage)
  batch = make_batch()
  metrics = jax.jit(task.evaluate)(params, {}, batch)
  predicted = task.lm.layout.predicted
  nll = _nll(stage)(batch).reshape(3, -1, predicted.num_levels)
  np.testing.assert_allclose(metrics['nll'], nll.mean((1, 2)), rtol=1e-5)
  assert {value.shape for value in metrics.values()} == {(3,)}
  first = predicted.first_level + 1
  names = {f'nll_level_{first + q}' for q in range(predicted.num_levels)}
  levels = {name for name in metrics if name.startswith('nll_level')}
  assert levels == (names if stage != 'semantic' else set())
  for q, name in enumerate(sorted(levels)):
    np.testing.assert_allclose(metrics[name], nll[..., q].mean(1), rtol=1e-5)


@pytest.mark.parametrize('stage', STAGES)
def test_a_token_moves_what_follows_it_and_nothing_before(stage):
  """Mistake 31: self-attention output never used (perturb t-1, see t)."""
  task, _ = made(stage)
  predicted, batch = task.lm.layout.predicted, make_batch()
  frame, level = 2, predicted.num_levels - 1
  at = frame * predicted.num_levels + level
  codes = batch[predicted.stream]
  index = (slice(None), frame)
  if codes.ndim == 3:
    index = (*index, predicted.first_level + level)
  changed = batch | {
    predicted.stream: codes.at[index].set((codes[index] + 1) % K)
  }
  moved = np.abs(_logits(stage)(changed) - _logits(stage)(batch)).max((0, 2))
  assert (moved[: at + 1] == 0).all()
  assert (moved[at + 1 :] > 1e-5).all()


@pytest.mark.parametrize('stage', STAGES)
def test_every_conditioning_stream_is_used(stage):
  """Mistake 30: segments whose cross offsets are lost."""
  batch, base = make_batch(), _logits(stage)(make_batch())
  other = make_batch(seed=1)
  layout = made(stage)[0].lm.layout
  for segment in layout.segments[:-1]:
    changed = dict(batch)
    if segment.stream == 'acoustic':  # its coarse levels only
      coarse = segment.num_levels
      changed['acoustic'] = (
        batch['acoustic'].at[..., :coarse].set(other['acoustic'][..., :coarse])
      )
    else:
      changed[segment.stream] = other[segment.stream]
    assert np.abs(_logits(stage)(changed) - base).max() > 1e-4


def test_half_of_the_heads_begin_at_the_time_they_predict():
  """Mistake 30: segments whose cross offsets are lost."""
  task, params = made('coarse')
  layout = task.lm.layout
  bias = task.lm.model.apply(
    {'params': params['lm']},
    0,
    layout.num_tokens,
    method=lambda lm, start, count: lm._row_bias(start, count),
  )
  matrix = np.asarray(bias.matrix(layout.num_tokens))
  queries, keys = layout.query_ticks(), layout.key_ticks()
  same = (queries[:, None] == keys) & (queries[:, None] >= 0)
  np.testing.assert_allclose(matrix[0, :, : len(keys)][same], 2.0)
  assert same.sum() == layout.predicted.num_tokens
  assert np.abs(matrix[1, :, : len(keys)][same]).max() < 1.0
  assert (matrix[:, queries < 0] == 0).all()
  assert (matrix[:, :, :12] == 0).all()
  assert (matrix[:, :, len(keys) :] == 0).all()


def test_masked_mulan_levels_are_not_used():
  batch, other = make_batch(), make_batch(seed=1)
  keep = 3
  deep = batch['mulan'].at[:, keep:].set(other['mulan'][:, keep:])
  nll = _nll('semantic')
  changed = batch | {'mulan': deep}
  np.testing.assert_array_equal(nll(changed, keep), nll(batch, keep))
  assert np.abs(nll(changed) - nll(batch)).max() > 1e-5
  masked = batch | {'mulan': other['mulan']}
  np.testing.assert_array_equal(nll(masked, 0), nll(batch, 0))
  rows = jnp.array([12, 3, 0])
  np.testing.assert_allclose(
    nll(batch, rows)[1], nll(batch, keep)[1], atol=1e-5
  )


def test_level_dropout_has_its_probabilities():
  drawn = np.asarray(draw_num_levels(jax.random.key(0), 20_000, 12, 0.5, 0.1))
  shares = np.bincount(drawn, minlength=13) / len(drawn)
  expected = np.array([0.1, *[0.4 / 11] * 11, 0.5])
  np.testing.assert_allclose(shares, expected, atol=0.01)
  strict = draw_num_levels(jax.random.key(1), 1000, 12, 1.0, 0.0)
  assert (strict == 12).all()


def test_a_wrong_level_takes_those_below_it_along():
  rows, levels = 4000, 12
  own = jnp.tile(jnp.arange(rows)[:, None], (1, levels))
  batch = with_wrong_levels({'mulan': own}, jax.random.key(0), 0.4)
  right = np.asarray(batch['mulan'] == own)
  np.testing.assert_allclose(
    right.mean(axis=0), 0.6 ** np.arange(1, levels + 1), atol=0.03
  )
  assert (np.diff(right.astype(int), axis=1) <= 0).all()
  others = np.asarray(batch['mulan'])[~right]
  assert (others == np.roll(np.asarray(own), 1, axis=0)[~right]).all()


def test_wrong_levels_are_of_training_alone():
  _, params = made('semantic')
  batch, key = make_batch(64), jax.random.key(0)
  losses = {}
  for share in (0.0, 1.0):
    task = make_task('semantic', wrong_level_probability=share)
    losses[share] = float(
      jax.jit(task.losses()['lm'])(params, {}, batch, key, 0)[0]
    )
    metrics = jax.jit(task.evaluate)(params, {}, batch)
    expected = _nll('semantic')(batch).mean(1)
    np.testing.assert_allclose(metrics['nll'], expected, rtol=1e-5)
  rolled = batch | {'mulan': jnp.roll(batch['mulan'], 1, axis=0)}
  plain = jax.jit(make_task('semantic').losses()['lm'])
  assert losses[1.0] != losses[0.0]
  assert losses[1.0] == float(plain(params, {}, rolled, key, 0)[0])


def test_training_drops_levels_and_units_and_evaluation_neither():
  task = make_task('semantic', dropout_rate=0.5, all_levels_probability=0.0)
  _, params = made('semantic')
  loss = jax.jit(task.losses()['lm'])
  batch = make_batch()
  losses = {
    float(loss(params, {}, batch, jax.random.key(seed), 0)[0])
    for seed in range(3)
  }
  assert len(losses) == 3
  expected = _nll('semantic')(batch).mean(1)
  actual = jax.jit(task.evaluate)(params, {}, batch)['nll']
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_crops_of_the_wrong_length_are_refused():
  """Mistake 34: rounding makes streams drift against each other."""
  task, params = made('coarse')
  batch = make_batch()
  for name in ('semantic', 'acoustic'):
    short = batch | {name: batch[name][:, :-1]}
    with pytest.raises(ValueError, match=f"'{name}' has"):
      task.lm.nll(params, {}, short)


@pytest.mark.parametrize('stage', STAGES)
def test_a_batch_can_be_overfitted(stage):
  """Mistake 40: a model judged broken before it was asked to overfit."""
  task, params = made(stage)
  batch = make_batch(2)
  optimizer = optax.adam(1e-2)
  loss = task.losses()['lm']

  @jax.jit
  def train(params, state):
    def step(carry, key):
      params, state = carry
      value, gradient = jax.value_and_grad(
        lambda p: loss(p, {}, batch, key, 0)[0]
      )(params)
      updates, state = optimizer.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), value

    keys = jax.random.split(jax.random.key(0), 150)
    return jax.lax.scan(step, (params, state), keys)

  _, values = train(params, optimizer.init(params))
  assert values[0] > 2.0
  assert values[-1] < 0.05
