"""Precision against closed forms and another library."""

import numpy as np
import pytest

from experiments.mulan_retrieval import precision


def test_precision_is_that_of_scikit_learn():
  metrics = pytest.importorskip('sklearn.metrics')
  rng = np.random.default_rng(2)
  relevant = rng.random((12, 40)) < 0.2
  scores = rng.normal(size=relevant.shape) + relevant
  found = precision.average_precision(scores, relevant)
  for row, mask, value in zip(scores, relevant, found, strict=True):
    assert value == pytest.approx(metrics.average_precision_score(mask, row))


def test_precision_is_one_where_all_relevant_come_first():
  scores = np.array([[4.0, 3, 2, 1], [4, 3, 2, 1]])
  relevant = np.array([[True, True, False, False], [False] * 4])
  found = precision.average_precision(scores, relevant)
  assert found[0] == 1 and np.isnan(found[1])
