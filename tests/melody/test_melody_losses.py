"""The triplet loss against a plain loop, and its limits."""

import jax
import numpy as np
import pytest

from musiclm_jax.melody.task import squared_distances, triplet_loss
from musiclm_jax.nn.embedding import recall_at_1

MARGIN = 0.2
GROUP = np.arange(7, dtype=np.int32)


@jax.jit
def _loss(pairs, group):
  return triplet_loss(pairs, group, MARGIN)


def _pairs(count, width, seed, spread=1.0):
  x = np.random.default_rng(seed).normal(size=(count, 2, width))
  x = spread * x + np.random.default_rng(99).normal(size=width)
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def _loop(pairs, group, margin):
  """FaceNet §3.2, one anchor after the other; which rule chose is counted."""
  out, rules = [], []
  for view in (0, 1):
    for i in range(len(pairs)):
      anchor, positive = pairs[i, view], pairs[i, 1 - view]
      own = np.sum((anchor - positive) ** 2)
      away = [
        np.sum((anchor - pairs[j, other]) ** 2)
        for other in (0, 1)
        for j in range(len(pairs))
        if group[j] != group[i]
      ]
      if not away:
        out.append(0.0)
        rules.append('none')
        continue
      semi_hard = [d for d in away if own < d < own + margin]
      out.append(max(0.0, own - min(semi_hard or away) + margin))
      rules.append('semi-hard' if semi_hard else 'hardest')
  return np.array(out), rules


@pytest.mark.parametrize('group', [range(7), [0, 0, 1, 2, 2, 2, 3], [5] * 7])
@pytest.mark.parametrize(('seed', 'spread'), [(0, 1.0), (1, 0.3), (2, 5.0)])
def test_loss_is_that_of_a_plain_loop(group, seed, spread):
  pairs, group = _pairs(7, 6, seed, spread), np.array(group, np.int32)
  expected, _ = _loop(pairs, group, MARGIN)
  np.testing.assert_allclose(_loss(pairs, group), expected, atol=1e-5)


def test_both_rules_of_choice_are_met_by_these_examples():
  rules = [
    rule
    for seed, spread in ((0, 1.0), (1, 0.3), (2, 5.0))
    for rule in _loop(_pairs(7, 6, seed, spread), range(7), MARGIN)[1]
  ]
  assert min(rules.count('semi-hard'), rules.count('hardest')) > 3


def test_a_perfect_embedding_has_no_loss():
  pairs = np.repeat(np.eye(7, dtype=np.float32)[:, None, :6], 2, axis=1)
  pairs[6] = -pairs[0]
  loss = _loss(pairs, GROUP)
  assert loss.shape == (14,)
  np.testing.assert_array_equal(loss, 0.0)


def test_a_collapsed_embedding_pays_the_margin_and_finds_nothing():
  pairs = np.full((7, 2, 6), 6**-0.5, np.float32)
  np.testing.assert_allclose(_loss(pairs, GROUP), MARGIN, atol=1e-5)
  across = squared_distances(pairs[:, 0], pairs[:, 1])
  np.testing.assert_array_equal(recall_at_1(-across, GROUP), 0.0)


def test_gradient_is_finite_where_embeddings_coincide():
  pairs = np.full((7, 2, 6), 6**-0.5, np.float32)
  gradient = jax.jit(jax.grad(lambda x: _loss(x, GROUP).sum()))(pairs)
  assert np.isfinite(gradient).all()
