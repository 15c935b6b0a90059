"""Ranking against simulations, other libraries and closed forms."""

import numpy as np
import pytest

from musiclm_jax.evaluation import ranking, statistics


def _fits(count=24, seed=0):
  """Captions that state some of three attributes of their clips."""
  rng = np.random.default_rng(seed)
  clips = rng.integers(0, 3, (count, 3))
  states = rng.random((count, 3)) < 0.5
  equal = clips[:, None, :] == clips[None, :, :]
  return (equal | ~states[:, None, :]).all(axis=2)


def test_recall_counts_the_keys_before_the_own():
  scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
  for k, expected in ((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])):
    np.testing.assert_array_equal(ranking.recall_at(scores, k), expected)


def test_scores_that_are_all_alike_have_the_recall_of_chance():
  same = np.zeros((20, 20))
  np.testing.assert_allclose(ranking.recall_at(same, 5), 5 / 20)


@pytest.mark.parametrize('turned', [False, True])
def test_the_oracle_is_what_random_ties_come_to(turned):
  scores = ranking.attribute_oracle(_fits())
  scores = scores.T if turned else scores
  rng = np.random.default_rng(1)
  hits, draws = np.zeros(len(scores)), 4000
  for _ in range(draws):
    order = np.lexsort((rng.random(scores.shape), -scores), axis=1)
    hits += (order[:, :3] == np.arange(len(scores))[:, None]).any(axis=1)
  closed = ranking.recall_at(scores, 3)
  assert 0.1 < closed.mean() < 0.9
  np.testing.assert_allclose(hits / draws, closed, atol=0.04)


def test_the_oracle_over_n_fitting_clips_has_k_of_n():
  fits = _fits()
  scores = ranking.attribute_oracle(fits)
  np.testing.assert_allclose(scores.sum(axis=1), 1)
  expected = np.minimum(3 / fits.sum(axis=1), 1)
  np.testing.assert_allclose(ranking.recall_at(scores, 3), expected)


def test_the_oracle_prefers_the_caption_that_fits_fewer_clips():
  fits = np.array([[True, True], [False, True]])  # the second fits one clip
  np.testing.assert_array_equal(
    ranking.recall_at(ranking.attribute_oracle(fits).T, 1), [1, 1]
  )


def test_no_retriever_of_the_attributes_beats_the_oracle():
  fits = _fits(200, seed=3)
  oracle = ranking.attribute_oracle(fits)
  rng = np.random.default_rng(0)
  for scores in (oracle, oracle.T):
    best = ranking.recall_at(scores, 5).mean()
    other = np.where(scores > 0, rng.random(scores.shape), 0)
    assert ranking.recall_at(other, 5).mean() < best + 0.05


def test_a_caption_that_is_not_true_of_its_clip_is_refused():
  with pytest.raises(ValueError, match=r'captions \[1\]'):
    ranking.attribute_oracle(np.array([[True, True], [True, False]]))


def test_precision_and_auc_are_those_of_scikit_learn():
  metrics = pytest.importorskip('sklearn.metrics')
  rng = np.random.default_rng(2)
  relevant = rng.random((12, 40)) < 0.2
  scores = rng.normal(size=relevant.shape) + relevant
  found = ranking.average_precision(scores, relevant)
  for row, mask, value in zip(scores, relevant, found, strict=True):
    assert value == pytest.approx(metrics.average_precision_score(mask, row))
    coarse = np.round(row)  # with ties
    for some in (row, coarse):
      assert ranking.roc_auc(some, mask) == pytest.approx(
        metrics.roc_auc_score(mask, some)
      )


def test_precision_is_one_where_all_relevant_come_first():
  scores = np.array([[4.0, 3, 2, 1], [4, 3, 2, 1]])
  relevant = np.array([[True, True, False, False], [False] * 4])
  found = ranking.average_precision(scores, relevant)
  assert found[0] == 1 and np.isnan(found[1])


def test_auc_needs_both_classes():
  with pytest.raises(ValueError, match='3 and 0'):
    ranking.roc_auc(np.arange(3), np.ones(3, bool))


def test_a_ratio_is_bounded_by_paired_resamples():
  rng = np.random.default_rng(0)
  theirs = rng.uniform(0.2, 1.0, 400)
  whole = statistics.bootstrap_ratio(0.8 * theirs, theirs)
  assert whole.value == pytest.approx(0.8) and whole.high - whole.low < 1e-9
  noisy = statistics.bootstrap_ratio(rng.permutation(theirs), theirs)
  assert noisy.low < 1.0 < noisy.high < 1.2
