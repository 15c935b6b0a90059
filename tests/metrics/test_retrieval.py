"""Recall against closed forms."""

import numpy as np

from musiclm_jax.metrics import retrieval


def test_recall_counts_the_keys_before_the_own():
  scores = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])
  for k, expected in ((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])):
    np.testing.assert_array_equal(retrieval.recall_at(scores, k), expected)


def test_scores_that_are_all_alike_have_the_recall_of_chance():
  same = np.zeros((20, 20))
  np.testing.assert_allclose(retrieval.recall_at(same, 5), 5 / 20)
