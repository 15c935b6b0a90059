"""The decoupled contrastive loss against a double loop, groups, temperature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.mulan.model import bounded_temperature, free_temperature
from musiclm_jax.mulan.task import (
  contrastive_loss,
  mean_over_pairs,
  true_pairs,
)
from musiclm_jax.nn import embedding


def _pairs(count, seed=0):
  rng = np.random.default_rng(seed)
  audio, text = rng.normal(size=(2, count, 6)).astype(np.float32)
  return np.asarray(embedding.unit(audio)), np.asarray(embedding.unit(text))


def _by_loops(audio, text, group, temperature):
  """The loss as the paper writes it, one term at a time."""
  result = []
  for i in range(len(audio)):
    denominator = 0.0
    for j in range(len(audio)):
      if j != i and group[i] != group[j]:
        denominator += math.exp(float(audio[i] @ text[j]) / temperature)
        denominator += math.exp(float(audio[j] @ text[i]) / temperature)
    positive = math.exp(float(audio[i] @ text[i]) / temperature)
    result.append(-math.log(positive / denominator) if denominator else 0.0)
  return np.array(result)


@pytest.mark.parametrize('group', [(0, 1, 2, 3, 4), (0, 1, 0, 3, 1)])
def test_loss_equals_a_double_loop(group):
  audio, text = _pairs(5)
  loss, terms = contrastive_loss(
    embedding.cosines(audio, text), jnp.array(group), jnp.array(0.1)
  )
  expected = _by_loops(audio, text, group, 0.1)
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
  others = [sum(g != h for h in group) for g in group]
  np.testing.assert_array_equal(terms, 2 * np.array(others))


def test_gradient_equals_finite_differences():
  audio, text = _pairs(4)
  group = jnp.arange(4)

  def of(audio):
    cosines = embedding.cosines(audio, text)
    return mean_over_pairs(*contrastive_loss(cosines, group, jnp.array(0.5)))

  gradient = jax.grad(of)(audio)
  for i, k in ((0, 0), (2, 3), (3, 5)):
    step = np.zeros_like(audio)
    step[i, k] = 1e-2
    slope = (of(audio + step) - of(audio - step)) / 2e-2
    np.testing.assert_allclose(gradient[i, k], slope, rtol=2e-2, atol=1e-4)


def test_knowing_nothing_costs_the_logarithm_of_the_number_of_terms():
  same = np.tile(_pairs(1)[0], (7, 1))
  loss, terms = contrastive_loss(
    embedding.cosines(same, same), jnp.arange(7), jnp.array(0.1)
  )
  np.testing.assert_allclose(loss, math.log(2 * 7 - 2), rtol=1e-5)
  np.testing.assert_array_equal(terms, 12)


def test_the_positive_is_not_in_the_denominator():
  """Decoupled: a perfect pair has a loss below 0 when others are far."""
  audio = np.eye(4, dtype=np.float32)
  loss, _ = contrastive_loss(
    embedding.cosines(audio, audio), jnp.arange(4), jnp.array(0.1)
  )
  np.testing.assert_allclose(loss, math.log(6) - 10.0, rtol=1e-5)


def test_pairs_of_one_group_do_not_push_each_other_away():
  audio, text = _pairs(4)
  group = jnp.array([5, 5, 6, 7])

  def first_loss(cosines):
    loss, _ = contrastive_loss(cosines, group, jnp.array(0.1))
    return loss[0]

  gradient = np.asarray(jax.grad(first_loss)(embedding.cosines(audio, text)))
  assert gradient[0, 1] == gradient[1, 0] == 0.0
  assert gradient[0, 2] > 0.0 and gradient[2, 0] > 0.0 > gradient[0, 0]


def _batch_of(claims, facts, piece):
  """Marks of pairs with one caption each; bits of a single word."""
  return {
    'claims': jnp.array(claims, jnp.int32)[:, None, None],
    'facts': jnp.array(facts, jnp.int32)[:, None],
    'piece': jnp.array(piece, jnp.int32),
  }


# Caption 0 is true of crops 0 and 1, caption 1 of its own alone; nobody knows
# what 3 and 4 state, whose crops are of one piece.
PLANTED = _batch_of([1, 3, 12, 0, 0], [1, 3, -2, 0, 0], [0, 1, 2, 3, 3])
TRUE = np.eye(5, dtype=bool)
TRUE[1, 0] = TRUE[3, 4] = TRUE[4, 3] = True


def test_captions_are_true_of_crops_that_hold_all_that_they_claim():
  found = true_pairs(PLANTED)
  np.testing.assert_array_equal(found, TRUE[None])
  # Each of several captions speaks for itself.
  other = _batch_of([1, 1, 4, 0, 0], [0] * 5, [0] * 5)['claims']
  several = PLANTED | {
    'claims': jnp.concatenate([PLANTED['claims'], other], axis=1)
  }
  expected = np.stack([TRUE, TRUE])
  expected[1, :2, :2] = expected[1, 2, 2] = True
  np.testing.assert_array_equal(true_pairs(several), expected)
  assert true_pairs({'group': jnp.arange(5)}) is None


def test_a_true_caption_has_no_effect_on_the_loss_and_gets_no_gradient():
  audio, text = _pairs(5)
  cosines = np.asarray(embedding.cosines(audio, text))
  group, temperature = jnp.arange(5), jnp.array(0.1)

  def total(cosines, true=TRUE):
    loss, terms = contrastive_loss(cosines, group, temperature, true)
    return mean_over_pairs(loss, terms), (loss, terms)

  (value, (loss, terms)), gradient = jax.value_and_grad(total, has_aux=True)(
    cosines
  )
  masked = TRUE & ~np.eye(5, dtype=bool)
  np.testing.assert_array_equal(gradient[masked], 0.0)
  assert (gradient[~TRUE] > 0.0).all()
  moved = np.where(masked, -cosines, cosines)
  np.testing.assert_array_equal(total(moved)[0], value)
  assert abs(total(moved, None)[0] - total(cosines, None)[0]) > 1e-3
  np.testing.assert_array_equal(terms, [7, 7, 8, 6, 6])
  # By loops: h_ij of audio i and text j in both denominators or in none.
  for i in range(5):
    h = np.exp(cosines / 0.1)
    kept = [j for j in range(5) if not TRUE[i, j]]
    back = [j for j in range(5) if not TRUE[j, i]]
    expected = np.log(h[i, kept].sum() + h[back, i].sum()) - np.log(h[i, i])
    np.testing.assert_allclose(loss[i], expected, rtol=1e-4)


def test_what_is_true_is_found_as_rightly_as_what_is_ones_own():
  scores = jnp.array([[0.5, 0.1, 0.0], [0.9, 0.1, 0.0], [0.2, 0.3, 0.1]])
  true = jnp.eye(3, dtype=bool).at[1, 0].set(True)
  hits = embedding.recall_at_1(scores, jnp.arange(3), true)
  np.testing.assert_array_equal(hits, [1.0, 1.0, 0.0])


def test_truth_is_compared_across_the_devices_of_a_batch(run_python):
  """A caption of one device is no negative of another one's crop."""
  printed = run_python(
    """
import os
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'
import jax, numpy as np
from musiclm_jax.contracts import sharding
from musiclm_jax.mulan.task import contrastive_loss, true_pairs
rng = np.random.default_rng(0)
batch = {
  'claims': rng.integers(0, 4, (8, 1, 2), np.int32),
  'facts': rng.integers(0, 16, (8, 2), np.int32),
  'piece': np.array([0, 1, 2, 3, 4, 5, 6, 0], np.int32),
  'cosines': rng.uniform(-1, 1, (8, 8)).astype('f'),
}
batch['claims'][5], batch['facts'][2], batch['facts'][3] = (1, 4), (3, 6), 2
@jax.jit
def of(batch):
  true = true_pairs(batch)[0]
  loss, terms = contrastive_loss(batch['cosines'], np.arange(8), 0.1, true)
  return true, terms, loss
one = of(batch)
four = of(sharding.put_batch(batch, sharding.make_mesh()))
for a, b in zip(one, four):
  np.testing.assert_allclose(a, b, rtol=1e-6)
true = np.asarray(one[0])
print(len(jax.devices()), *true[[0, 2, 3], [7, 5, 5]])
"""
  )
  assert printed.split() == ['4', 'True', 'True', 'False']


def test_a_batch_without_negatives_has_no_loss_and_a_finite_gradient():
  audio, text = _pairs(3)

  def of(audio):
    return mean_over_pairs(
      *contrastive_loss(
        embedding.cosines(audio, text), jnp.zeros(3, int), jnp.array(0.1)
      )
    )

  value, gradient = jax.value_and_grad(of)(audio)
  assert value == 0.0
  np.testing.assert_array_equal(gradient, 0.0)


def test_recall_counts_own_group_and_no_ties():
  scores = jnp.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.2, 0.2, 0.2]])
  hits = embedding.recall_at_1(scores, jnp.arange(3))
  np.testing.assert_array_equal(hits, [1.0, 0.0, 0.0])
  hits = embedding.recall_at_1(scores, jnp.array([0, 0, 1]))
  np.testing.assert_array_equal(hits, [1.0, 1.0, 0.0])


def test_temperature_begins_where_it_should_and_stays_within_bounds():
  start = free_temperature(0.07, 0.01, 1.0)
  at = jax.jit(lambda x: bounded_temperature(x, 0.01, 1.0))
  np.testing.assert_allclose(at(start), 0.07, rtol=1e-5)
  np.testing.assert_allclose([at(-50.0), at(50.0)], [0.01, 1.0], rtol=1e-5)
  # Near a bound there still is a way back.
  slope = jax.grad(lambda x: bounded_temperature(x, 0.01, 1.0))(-6.0)
  assert slope > 0.0
  with pytest.raises(UsageError, match='temperature'):
    free_temperature(2.0, 0.01, 1.0)
