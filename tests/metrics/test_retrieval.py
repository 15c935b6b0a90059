"""Recall and precision against closed forms and another library."""

import numpy as np
import pytest

from musiclm_jax.metrics import retrieval


def test_recall_counts_the_keys_before_the_own():
  scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
  for k, expected in ((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])):
    np.testing.assert_array_equal(retrieval.recall_at(scores, k), expected)


def test_scores_that_are_all_alike_have_the_recall_of_chance():
  same = np.zeros((20, 20))
  np.testing.assert_allclose(retrieval.recall_at(same, 5), 5 / 20)


def test_precision_is_that_of_scikit_learn():
  metrics = pytest.importorskip('sklearn.metrics')
  rng = np.random.default_rng(2)
  relevant = rng.random((12, 40)) < 0.2
  scores = rng.normal(size=relevant.shape) + relevant
  found = retrieval.average_precision(scores, relevant)
  for row, mask, value in zip(scores, relevant, found, strict=True):
    assert value == pytest.approx(metrics.average_precision_score(mask, row))


def test_precision_is_one_where_all_relevant_come_first():
  scores = np.array([[4.0, 3, 2, 1], [4, 3, 2, 1]])
  relevant = np.array([[True, True, False, False], [False] * 4])
  found = retrieval.average_precision(scores, relevant)
  assert found[0] == 1 and np.isnan(found[1])
