"""Copying is found whether exact or with slips, and not where there is none."""

import numpy as np
import pytest

from musiclm_jax.metrics import memorization


@pytest.fixture(scope='module')
def corpus():
  rng = np.random.default_rng(0)
  return [rng.integers(0, 64, 250) for _ in range(40)]


def test_a_copy_at_any_offset_is_found(corpus):
  query = corpus[7][33 : 33 + 125][None]
  assert memorization.largest_shares(query, corpus)[0] == 1.0


def test_a_span_across_two_training_crops_is_no_copy(corpus):
  query = np.concatenate([corpus[0][-60:], corpus[1][:65]])[None]
  share = memorization.largest_shares(query, corpus)[0]
  assert share < 0.7


CENTROIDS = np.random.default_rng(5).normal(size=(64, 8))


def drawn_spans(rng, count, length=125):
  """Spans of pieces: each moves among its own dozen of ids."""
  found = []
  for _ in range(count):
    ids = rng.choice(64, 12, replace=False)
    found.append(ids[np.minimum(rng.geometric(0.25, length) - 1, 11)])
  return np.array(found)


def slipped(rng, spans, share=0.1):
  """Spans with another id at some positions, and in another order."""
  out = rng.permuted(spans, axis=1)
  wrong = rng.random(out.shape) < share
  return np.where(wrong, rng.integers(0, 64, out.shape), out)


def test_entropy_is_that_of_the_ids_whatever_their_order():
  spans = np.array([[3] * 8, [1, 2] * 4, [1] * 4 + [2] * 4, range(8)])
  np.testing.assert_allclose(
    memorization.entropies(spans), [0, 1, 1, 3], atol=1e-12
  )


def test_transport_costs_what_an_exact_solver_finds():
  from scipy.optimize import linprog

  rng = np.random.default_rng(6)
  a, b = np.zeros(64), np.zeros(64)
  a[:9], b[5:18] = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(13))
  costs = np.linalg.norm(CENTROIDS[:9, None] - CENTROIDS[5:18], axis=-1)
  rows = np.kron(np.eye(9), np.ones(13))
  columns = np.kron(np.ones(9), np.eye(13))
  exact = linprog(
    costs.ravel(),
    A_eq=np.concatenate([rows, columns]),
    b_eq=np.concatenate([a[:9], b[5:18]]),
  ).fun
  found = memorization.transport_cost(
    a, b, CENTROIDS, regularization=0.01, iterations=2000
  )
  assert exact * (1 - 1e-6) <= found <= 1.01 * exact
  assert memorization.transport_cost(a, a, CENTROIDS) < 0.01 * exact


def test_the_nearest_training_span_is_found_without_trying_all():
  rng = np.random.default_rng(7)
  queries, training = drawn_spans(rng, 6), drawn_spans(rng, 20)
  found = memorization.nearest_costs(queries, training, CENTROIDS)
  every = [
    memorization.transport_costs(
      np.repeat(query[None], 20, axis=0), training, CENTROIDS
    ).min()
    for query in queries
  ]
  np.testing.assert_allclose(found, every)


def test_planted_copies_are_found_with_few_false_alarms():
  """95 % of copies; the upper bound of false alarms is 1 % at most."""
  from scipy import stats

  rng = np.random.default_rng(8)
  count = 300
  targets = drawn_spans(rng, count)

  def costs_of(spans):
    return memorization.transport_costs(spans, targets, CENTROIDS)

  # A quarter below the cheapest of as many others.
  threshold = 0.75 * memorization.threshold_at(
    costs_of(drawn_spans(rng, count)), 0.0
  )
  assert (costs_of(slipped(rng, targets)) < threshold).mean() >= 0.95
  alarms = int((costs_of(drawn_spans(rng, count)) < threshold).sum())
  exact = stats.binomtest(alarms, count, alternative='less')
  assert exact.proportion_ci(0.95).high <= 0.01


def test_a_threshold_lets_no_more_than_its_share_pass():
  negatives = np.arange(200.0)
  threshold = memorization.threshold_at(negatives, 0.01)
  assert (negatives < threshold).mean() == 0.01
  assert (negatives < memorization.threshold_at(negatives, 0.0)).sum() == 0
  with pytest.raises(ValueError, match='cannot be seen'):
    memorization.threshold_at(negatives[:50], 0.01)


@pytest.mark.parametrize('count', [100, 299, 473, 600, 3000])
def test_a_bounded_threshold_holds_its_share_with_confidence(count):
  """As many may pass as the exact interval of a binomial allows."""
  from scipy import stats

  negatives = np.random.default_rng(count).permutation(count).astype(float)
  passed = int(
    (negatives < memorization.bounded_threshold(negatives, 0.01)).sum()
  )

  def high(k):
    exact = stats.binomtest(k, count, alternative='less')
    return exact.proportion_ci(0.95).high

  assert passed == 0 or high(passed) <= 0.01 < high(passed + 1)
  if count >= 299:
    assert high(passed) <= 0.01
