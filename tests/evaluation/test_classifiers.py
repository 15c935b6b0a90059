"""Classifiers: what they say, and when it counts."""

import numpy as np
import pytest

from musiclm_jax.evaluation import classifiers


@pytest.mark.parametrize(
  ('accuracy', 'majority', 'qualified'),
  [
    ({'plain': 0.9, 'coded': 0.86}, 0.2, True),
    ({'plain': 0.9, 'coded': 0.84}, 0.2, False),
    ({'plain': 0.93, 'coded': 0.92}, 0.9, False),
    ({}, 0.2, False),
  ],
)
def test_one_counts_that_is_right_plain_and_coded(
  accuracy, majority, qualified
):
  found = classifiers.Classifier(
    'x', ('a', 'b'), 'softmax', accuracy, majority, slice(0, 2)
  )
  assert found.qualified == qualified


def test_heads_lie_side_by_side():
  heads = classifiers.open_tagger(batch_size=4)
  columns = [
    k
    for classifier in heads.classifiers.values()
    for k in range(heads.embedder.dimension)[classifier.columns]
  ]
  assert columns == list(range(heads.embedder.dimension))
  waveform = 0.1 * np.random.default_rng(0).standard_normal(32_000)
  (logits,) = heads.logits([waveform.astype(np.float32)])
  assert logits.shape == (2, heads.embedder.dimension)
  family = heads.classifiers['family']
  assert len(family.classes) == logits[:, family.columns].shape[1] == 8
  assert family.scores == 'softmax'
  assert heads.classifiers['instruments'].scores == 'sigmoid'
