"""Optimizers and schedules by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_games import ADAM

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training.optimizer import (
  OPTIMIZERS,
  SCHEDULES,
  learning_rate_schedule,
  make_optimizer,
  make_optimizers,
)


def test_schedules_warm_up_and_then_follow_their_formula():
  at = jnp.arange(101)
  rates = {
    name: np.asarray(
      learning_rate_schedule(
        name, learning_rate=2.0, warmup_steps=10, total_steps=100
      )(at)
    )
    for name in SCHEDULES
  }
  for rate in rates.values():
    np.testing.assert_allclose(rate[:10], 0.2 * np.arange(1, 11), rtol=1e-6)
  np.testing.assert_allclose(rates['constant'][10:], 2.0)
  np.testing.assert_allclose(rates['cosine'][[55, 100]], [1, 0], atol=1e-6)
  np.testing.assert_allclose(rates['inverse_sqrt'][[40, 90]], [1, 2 / 3], 1e-6)


def test_rates_do_not_rise_in_a_longer_training():
  numbers = {'learning_rate': 2.0, 'warmup_steps': 10}
  before = learning_rate_schedule('cosine', **numbers, total_steps=100)
  numbers['total_steps'] = 400
  whole = learning_rate_schedule('cosine', **numbers)
  assert whole(60) > 1.5 * before(60), 'as if it had always been so long'
  on = learning_rate_schedule('cosine', **numbers, earlier=((60, 100),))
  rates = [float(on(step)) for step in (60, 100, 250, 400)]
  np.testing.assert_allclose(rates[0], before(60), rtol=1e-6)
  assert rates == sorted(rates, reverse=True)
  np.testing.assert_allclose(rates[-1], 0.0, atol=1e-6)
  ended = learning_rate_schedule('cosine', **numbers, earlier=((100, 100),))
  assert ended(100) == whole(100) > 0.0, 'or nothing more would be learned'


@pytest.mark.parametrize('name', sorted(OPTIMIZERS))
@pytest.mark.parametrize('params', [{}, {'kernel': jnp.ones((3, 2))}])
def test_every_optimizer_steps_with_and_without_parameters(name, params):
  optimizer = make_optimizer(**ADAM | {'name': name}, total_steps=10)
  gradient = jax.tree.map(jnp.ones_like, params)
  updates, _ = optimizer.update(gradient, optimizer.init(params), params)
  assert all(np.all(np.asarray(u) < 0) for u in jax.tree.leaves(updates))


def _first_update(name, params, gradient, **options):
  optimizer = make_optimizer(
    **ADAM | {'name': name, 'warmup_steps': 0, 'clip_norm': 0.0} | options,
    total_steps=10,
  )
  return optimizer.update(gradient, optimizer.init(params), params)[0]


def _noise(shape, seed=0):
  return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
  'path, shape, matrices',
  [
    ('dense', (24, 16), lambda u: u[None]),
    ('conv', (3, 8, 16), lambda u: u.reshape(1, 24, 16)),
    ('layers', (2, 24, 16), lambda u: u),
    ('query', (24, 2, 8), lambda u: np.moveaxis(u, 1, 0)),
    ('out', (2, 8, 24), lambda u: u),
  ],
)
def test_muon_makes_every_kernel_a_matrix_of_equal_singular_values(
  path, shape, matrices
):
  """A layer of a scan and a head of attention are matrices of their own."""
  params = {path: {'kernel': _noise(shape)}}
  gradient = jax.tree.map(lambda x: 1e-3 * _noise(x.shape, 1), params)
  update = _first_update('muon', params, gradient)[path]['kernel']
  for matrix in matrices(np.asarray(update)):
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values.max() < 2 * values.min()
    rms = np.sqrt(np.mean(np.square(matrix)))
    np.testing.assert_allclose(rms, 0.2 * ADAM['learning_rate'], rtol=0.15)


def test_muon_is_adam_for_biases_and_tables():
  params = {
    'bias': _noise((8,)),
    'dense': {'kernel': _noise((8, 4))},
    'embed': {'embedding': _noise((16, 8))},
  }
  gradient = jax.tree.map(lambda x: _noise(x.shape, 1), params)
  muon, adam = (_first_update(n, params, gradient) for n in ('muon', 'adam'))
  np.testing.assert_array_equal(muon['bias'], adam['bias'])
  jax.tree.map(np.testing.assert_array_equal, muon['embed'], adam['embed'])
  assert not np.allclose(muon['dense']['kernel'], adam['dense']['kernel'])


def test_a_subtree_moves_by_adam_at_a_rate_of_its_own():
  params = {
    name: {'dense': {'kernel': _noise((8, 4))}} for name in ('text', 'audio')
  }
  gradient = jax.tree.map(lambda x: _noise(x.shape, 1), params)
  rate = ADAM['learning_rate']

  def update(name, **rates):
    return _first_update(name, params, gradient, adam_rates=rates or None)

  adam, muon = update('adam'), update('muon')
  both = update('muon', text=0.1 * rate, other=None)
  for ours, whole in (
    (both['audio'], muon['audio']),
    (both['text'], jax.tree.map(lambda x: 0.1 * x, adam['text'])),
  ):
    ours, whole = ours['dense']['kernel'], whole['dense']['kernel']
    np.testing.assert_allclose(ours, whole, rtol=1e-3)
  assert not np.any(update('muon', text=0.0)['text']['dense']['kernel'])


def test_a_player_without_parameters_needs_no_optimizer():
  """Its state is as it was when configs named one, which checkpoints hold."""
  named = ADAM | {'learning_rate': 0.0, 'clip_norm': 0.0}
  kwargs = {'players': ('fit',), 'total_steps': 10}
  stated = make_optimizers({'fit': named}, **kwargs)['fit']
  silent = make_optimizers({}, **kwargs)['fit']
  states = [optimizer.init({}) for optimizer in (stated, silent)]
  assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert silent.update({}, states[1], {})[0] == {}
  with pytest.raises(UsageError, match=r'no optimizer\.fit'):
    silent.init({'kernel': jnp.zeros(2)})


def test_weight_decay_leaves_biases_and_norms_alone_stacked_ones_too():
  decayed = ADAM | {'name': 'adamw', 'weight_decay': 0.5}
  optimizer = make_optimizer(**decayed, total_steps=10)
  params = {
    'kernel': jnp.ones((2, 2)),
    'bias': jnp.ones(2),
    'layers': {'norm': {'scale': jnp.ones((3, 2)), 'bias': jnp.ones((3, 2))}},
  }
  still = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(still, optimizer.init(params), params)
  assert np.all(np.asarray(updates['kernel']) < 0)
  assert np.all(np.asarray(updates['bias']) == 0)
  for update in updates['layers']['norm'].values():
    assert np.all(np.asarray(update) == 0)


@pytest.mark.parametrize(
  'wrong, word',
  [
    ({'name': 'adm'}, 'adam, adamw, adafactor, muon'),
    ({'schedule': 'cosin'}, 'constant, cosine, inverse_sqrt'),
    ({'weight_decay': 0.1}, 'adamw'),
  ],
)
def test_wrong_names_are_refused_with_the_right_ones(wrong, word):
  with pytest.raises(UsageError, match=word):
    make_optimizer(**ADAM | wrong, total_steps=10)


def test_the_state_depends_on_the_name_only():
  """So that a schedule may change between two runs of one workdir."""
  params = {'kernel': jnp.ones((2, 2))}
  for name in OPTIMIZERS:
    decay = 0.0 if name == 'adam' else 0.1
    structures = {
      jax.tree.structure(
        make_optimizer(**ADAM | other | {'name': name}, total_steps=10).init(
          params
        )
      )
      for other in (
        {},
        {'b1': 0.0, 'clip_norm': 0.0},
        {'schedule': 'constant', 'weight_decay': decay},
      )
    }
    assert len(structures) == 1
