"""The parallel LM in training: masks, what enters the loss, what is read."""

import functools
import math
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_parallel_lm import B, K, Q, T, made, make_batch, memorised

from musiclm_jax import stages
from musiclm_jax.parallel_lm.task import draw_masks

CONFIG = Path(__file__).parents[2] / 'configs' / 'parallel.py'


@pytest.mark.parametrize(
  'size,millions', [('tiny', 1.397), ('small', 14.76), ('paper', 340.9)]
)
def test_a_size_has_the_parameters_that_its_config_says(size, millions):
  config = runpy.run_path(str(CONFIG))['get_config'](size).to_dict()
  task = stages.build(config)
  params, _ = jax.eval_shape(
    task.init, jax.random.key(0), stages.batch_shapes(config)
  )
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  assert math.isclose(count, millions * 1e6, rel_tol=1e-3)
  assert size != 'paper' or f'{millions} M' in CONFIG.read_text().replace(
    '\n', ' '
  )


def drawn(level, count=500):
  keys = jax.random.split(jax.random.key(level), count)
  masked = jax.vmap(lambda key: draw_masks(key, level, T, Q))(keys)
  return np.asarray(masked.hidden), np.asarray(masked.asked)


@pytest.mark.parametrize('level', range(Q))
def test_masks_follow_the_objective(level):
  hidden, asked = drawn(level)
  np.testing.assert_array_equal(hidden[:, :, level], asked)
  assert not hidden[:, :, :level].any(), 'lower levels are known'
  assert asked.any(axis=1).all(), 'one frame at least is asked for'
  if level + 1 < Q:
    above = hidden[:, :, -1]
    np.testing.assert_array_equal(hidden[:, :, level + 1], above)
    # All after a prefix, which is never masked and as long as it likes.
    assert (np.diff(above.astype(int), axis=1) >= 0).all()
    assert not (asked & ~above).any()
    lengths = np.bincount(T - above.sum(axis=1), minlength=T)
    assert len(lengths) == T and (lengths > 500 / T / 3).all()


def test_the_share_that_is_masked_is_a_cosine_of_chance():
  key = jax.random.key(0)
  masked = jax.vmap(lambda k: draw_masks(k, 0, 400, 2))(
    jax.random.split(key, 2000)
  )
  after, asked = masked.hidden[..., 1].sum(axis=1), masked.asked.sum(axis=1)
  shares = np.sort((asked / after)[after > 100])
  expected = np.sort(np.cos(np.linspace(0, np.pi / 2, len(shares))))
  np.testing.assert_allclose(shares, expected, atol=0.06)


def test_only_masked_codes_of_one_level_enter_the_loss():
  task, params = made()
  batch, rng = make_batch(), jax.random.key(5)
  loss = jax.jit(task.losses()['lm'])
  before, (collections, metrics) = loss(params, {}, batch, rng, 0)
  assert collections == {} and before == metrics['nll']
  # As `_loss` draws them.
  level_rng, _, mask_rng, _ = jax.random.split(rng, 4)
  level = jax.random.randint(level_rng, (B,), 0, Q)
  masked = jax.vmap(lambda key, q: draw_masks(key, q, T, Q))(
    jax.random.split(mask_rng, B), level
  )
  asked = masked.hidden & (jnp.arange(Q) == level[:, None, None])
  np.testing.assert_allclose(metrics['masked'], masked.asked.mean(), rtol=1e-6)

  def changed(where):
    acoustic = jnp.where(where, (batch['acoustic'] + 1) % K, batch['acoustic'])
    return loss(params, {}, batch | {'acoustic': acoustic}, rng, 0)[0]

  # Hidden ones of other levels are neither read nor counted.
  assert masked.hidden.sum() > asked.sum()
  assert changed(masked.hidden & ~asked) == before
  assert changed(asked) != before


@functools.cache
def compiled_logits():
  return jax.jit(made()[0].decoder.logits)


def logits_of(codes, level=1, batch=None, **options):
  task, params = made()
  batch = make_batch() if batch is None else batch
  read = task.decoder.conditioning(batch, **options)
  return np.asarray(compiled_logits()(params, read, codes, jnp.int32(level)))


def test_what_is_masked_cannot_be_read():
  codes = make_batch()['acoustic'].at[:, 4:, 1:].set(-1)
  logits = logits_of(codes)
  assert np.isfinite(logits).all() and logits.shape == (B, T, K)
  other = codes.at[:, 4:, 1:].set(-2)
  np.testing.assert_array_equal(logits_of(other), logits)


def test_a_known_code_is_read_by_all_frames():
  codes = make_batch()['acoustic'].at[:, 4:, 1:].set(-1)
  logits = logits_of(codes)
  for frame, level in ((0, 2), (7, 0)):
    moved = logits_of(
      codes.at[:, frame, level].set((codes[:, frame, level] + 1) % K)
    )
    assert (np.abs(moved - logits).max(axis=(0, 2)) > 1e-5).all()


def test_every_conditioning_stream_is_read_until_it_is_masked():
  batch, codes = make_batch(), jnp.full((B, T, Q), -1)
  base = logits_of(codes)
  semantic = batch | {'semantic': (batch['semantic'] + 1) % K}
  assert np.abs(logits_of(codes, batch=semantic) - base).max() > 1e-3
  # Level 5 of twelve changes nothing where four are kept.
  mulan = batch | {
    'mulan': batch['mulan'].at[:, 4].set(7 - batch['mulan'][:, 4])
  }
  assert np.abs(logits_of(codes, batch=mulan) - base).max() > 1e-3
  np.testing.assert_array_equal(
    logits_of(codes, batch=mulan, num_mulan_levels=4),
    logits_of(codes, num_mulan_levels=4),
  )


def test_levels_of_the_rows_are_their_own():
  task, params = made()
  batch = make_batch()
  read, codes = task.decoder.conditioning(batch), batch['acoustic']
  each = compiled_logits()(params, read, codes, jnp.asarray([0, 1, 2, 0]))
  for row, level in enumerate((0, 1, 2, 0)):
    np.testing.assert_allclose(
      each[row], logits_of(codes, level)[row], rtol=1e-5, atol=1e-5
    )


def test_evaluation_is_per_example_and_per_level_and_always_the_same():
  task, params = made()
  evaluate = jax.jit(task.evaluate)
  metrics, again = (evaluate(params, {}, make_batch()) for _ in range(2))
  names = {'nll', 'accuracy', *(f'nll_level_{q + 1}' for q in range(Q))}
  assert metrics.keys() == names
  for name, values in metrics.items():
    assert values.shape == (B,)
    np.testing.assert_array_equal(values, again[name])
  levels = [metrics[f'nll_level_{q + 1}'] for q in range(Q)]
  np.testing.assert_allclose(metrics['nll'], np.mean(levels, axis=0), rtol=1e-5)


def test_a_batch_is_learned_by_heart():
  task, params, losses = memorised()
  assert losses[:10].mean() > 0.8 * math.log(K)
  metrics = task.evaluate(params, {}, make_batch())
  assert metrics['nll'].max() < 0.1 and metrics['accuracy'].min() == 1.0
  other = task.evaluate(params, {}, make_batch(seed=9))
  assert other['nll'].min() > 1.0


@pytest.mark.parametrize('left_out', ['mulan', 'semantic'])
def test_what_conditions_can_be_left_out_in_training(left_out):
  batch = make_batch()
  changed = batch | {'mulan': 7 - batch['mulan']}
  options = {'all_levels_probability': 0.0, 'no_levels_probability': 1.0}
  if left_out == 'semantic':  # and MuLan tokens with them
    changed['semantic'] = (batch['semantic'] + 1) % K
    options = {'no_semantic_probability': 1.0}
  task, params = made(semantic_mask=True, **options)
  loss = jax.jit(task.losses()['lm'])
  one, other = (
    loss(params, {}, read, jax.random.key(0), 0)[0] for read in (batch, changed)
  )
  assert one == other


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
def test_a_share_of_the_examples_is_about_the_first_level(share):
  """The gradient of a level's output is that of the examples about it."""
  task, params = made(first_level_probability=share)
  batch = make_batch()

  def about_first(rng):
    gradient, _ = jax.grad(task.losses()['lm'], has_aux=True)(
      params, {}, batch, rng, 0
    )
    gradient = gradient['lm']['output']
    return jnp.abs(gradient).sum(axis=(1, 2)) > 0

  keys = jax.random.split(jax.random.key(0), 200)
  learned = np.asarray(jax.jit(jax.vmap(about_first))(keys))
  # No example of a batch is about a level, all levels but the first alike.
  expected = np.full(Q, (1 - (1 - share) / Q) ** B)
  expected[0] = ((1 - share) * (1 - 1 / Q)) ** B
  np.testing.assert_allclose(1 - learned.mean(axis=0), expected, atol=0.1)
