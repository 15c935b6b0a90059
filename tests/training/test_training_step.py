"""One step: gradients at one point, refusal, accumulation, averages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_games import ADAM, GAMES

from musiclm_jax.contracts import sharding
from musiclm_jax.training import state as states
from musiclm_jax.training.optimizer import make_optimizers
from musiclm_jax.training.step import make_step

MESH = sharding.make_mesh(devices=jax.devices()[:1])


def begin(game, ema=False, optimizer=None):
  task, make, players = GAMES[game]
  optimizers = make_optimizers(
    {player: ADAM | (optimizer or {}) for player in players},
    players=players,
    total_steps=100,
  )
  batch = sharding.put_batch(make(0, 0), MESH)
  init = functools.partial(states.init_state, task, optimizers, with_ema=ema)
  abstract = states.abstract_state(init, batch, MESH)
  state = states.create_state(init, batch, abstract)
  return task, optimizers, batch, state


def assert_same(left, right, rtol=0.0):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol),
    left,
    right,
  )


@pytest.mark.parametrize('game', ['lm', 'codec'])
def test_a_game_overfits_one_batch(game):
  faster = {'learning_rate': 0.05, 'schedule': 'constant'}
  task, optimizers, batch, state = begin(game, optimizer=faster)
  step = jax.jit(make_step(task, optimizers), donate_argnums=0)
  losses = []
  for _ in range(150):
    state, metrics = step(state, batch)
    losses.append(float(metrics.get('error', metrics['loss'])))
  assert losses[-1] < 0.5 * losses[0]


def test_gradients_of_all_players_are_taken_at_the_same_parameters():
  """Mistake 6: the critic's gradients leak from or into the codec's step."""
  task, optimizers, batch, state = begin('codec')
  new, metrics = jax.jit(make_step(task, optimizers))(state, batch)
  key = jax.random.fold_in(jax.random.wrap_key_data(state.rng), 0)
  for player, loss in task.losses().items():
    gradient = jax.jit(
      jax.grad(
        lambda own, player=player, loss=loss: loss(
          state.params | {player: own}, state.collections, batch, key, 0
        )[0]
      )
    )(state.params[player])
    updates, _ = optimizers[player].update(
      gradient, state.opt_state[player], state.params[player]
    )
    expected = jax.tree.map(jnp.add, state.params[player], updates)
    assert_same(new.params[player], expected, 1e-5)
  assert {'grad_norm_codec', 'grad_norm_critic'} <= metrics.keys()
  assert 'loss_critic' in metrics


def test_only_the_owner_moves_a_collection():
  task, optimizers, batch, state = begin('codec')
  new, _ = jax.jit(make_step(task, optimizers))(state, batch)
  assert not np.any(np.asarray(new.collections['codec']['embed']) == 99.0)
  assert int(new.collections['statistics']['count']) == 8
  assert jax.tree.structure(new) == jax.tree.structure(state)


def test_every_parameter_of_every_player_moves():
  """Mistake 6: parameters that no optimizer knows."""
  task, optimizers, batch, state = begin('codec')
  step = jax.jit(make_step(task, optimizers))
  new = state
  for _ in range(60):
    new, _ = step(new, batch)
  for old, moved in zip(
    jax.tree.leaves(state.params), jax.tree.leaves(new.params), strict=True
  ):
    assert np.any(np.asarray(old) != np.asarray(moved))


def test_accumulated_gradients_equal_those_of_the_whole_batch():
  task, optimizers, batch, state = begin('codec')
  whole, of_whole = jax.jit(make_step(task, optimizers))(state, batch)
  parts, of_parts = jax.jit(make_step(task, optimizers, accumulation=4))(
    state, batch
  )
  assert_same(whole.params, parts.params, 1e-5)
  assert_same(of_whole['error'], of_parts['error'], 1e-5)


def test_codebooks_move_once_a_step_however_many_microbatches():
  task, optimizers, batch, state = begin('codec')
  parts, _ = jax.jit(make_step(task, optimizers, accumulation=4))(state, batch)
  assert int(parts.collections['statistics']['count']) == 2
  last = {name: rows[3::4] for name, rows in batch.items()}
  key = jax.random.fold_in(
    jax.random.fold_in(jax.random.wrap_key_data(state.rng), 0), 3
  )
  _, (moved, _) = task.losses()['codec'](
    state.params, state.collections, last, key, 0
  )
  assert_same(moved['codec'], parts.collections['codec'], 1e-6)


def test_a_non_finite_step_is_refused_and_counted():
  task, optimizers, batch, state = begin('lm', ema=True)
  step = jax.jit(make_step(task, optimizers, ema_decay=0.9))
  poisoned = batch | {'poison': jnp.ones_like(batch['poison'])}
  refused, metrics = step(state, poisoned)
  for part in ('params', 'ema_params', 'opt_state', 'collections'):
    assert_same(getattr(refused, part), getattr(state, part))
  assert int(refused.step) == 1
  assert int(metrics['refused_steps']) == 1
  again, metrics = step(refused, poisoned)
  assert int(metrics['refused_in_a_row']) == 2
  good, metrics = step(again, batch)
  assert int(metrics['refused_in_a_row']) == 0
  assert int(good.refused) == 2
  assert np.isfinite(float(metrics['loss']))


def test_clipping_is_per_player_and_norms_are_those_before_it():
  game = begin('codec', optimizer={'clip_norm': 1e-12, 'warmup_steps': 0})
  task, _, batch, state = game
  # With a plain descent the update's norm is the clipped norm times the rate.
  new, metrics = jax.jit(make_step(task, game[1]))(state, batch)
  assert float(metrics['grad_norm_critic']) > 1e-3
  moved = jax.tree.map(lambda a, b: a - b, new.params, state.params)
  # Adam's epsilon is far above a gradient of 1e-12: nearly nothing moves.
  assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(moved)) < 1e-5


def test_averaged_parameters_follow_and_codebooks_are_copied():
  """Mistake 10: an average of codebooks is no codebook."""
  task, optimizers, batch, state = begin('codec', ema=True)
  step = jax.jit(make_step(task, optimizers, ema_decay=0.5))
  new, _ = step(state, batch)
  decay = min(0.5, 1 / 10)
  expected = jax.tree.map(
    lambda old, now: decay * old + (1 - decay) * now, state.params, new.params
  )
  assert_same(new.ema_params, expected, 1e-6)
  assert new.inference_params is new.ema_params
  raw, _ = jax.jit(make_step(task, optimizers))(
    state.replace(ema_params={}), batch
  )
  assert_same(new.collections, raw.collections)


def test_a_step_does_not_depend_on_the_one_that_made_its_state():
  """Noise is a function of (seed, step), not of a key that is split."""
  task, optimizers, batch, state = begin('lm')
  step = jax.jit(make_step(task, optimizers))
  _, first = step(state, batch)
  _, again = step(state, batch)
  _, later = step(state.replace(step=state.step + 1), batch)
  assert float(first['loss']) == float(again['loss']) != float(later['loss'])
