"""The decoupled contrastive loss against a double loop, groups, temperature."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.mulan.model import bounded_temperature, free_temperature
from musiclm_jax.mulan.task import contrastive_loss, mean_over_pairs
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
