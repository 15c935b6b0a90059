"""Purity and known share, against scikit-learn and by construction."""

import numpy as np
import pytest

from experiments.semantic_tokens import token_purity


@pytest.fixture(scope='module')
def streams():
  rng = np.random.default_rng(0)
  labels = np.repeat(rng.integers(0, 6, (40, 25)), 8, axis=1)
  noisy = np.where(rng.random(labels.shape) < 0.3, labels[::-1], labels)
  return noisy * 5 + rng.integers(0, 5, labels.shape), labels


def test_known_share_is_the_mutual_information_of_sklearn(streams):
  from sklearn import metrics

  tokens, labels = streams
  theirs = metrics.homogeneity_score(labels.ravel(), tokens.ravel())
  assert token_purity.known_share(tokens, labels) == pytest.approx(theirs)


def test_purity_is_the_share_of_the_likeliest_label():
  tokens = np.array([[0, 0, 0, 1, 1, 2]])
  labels = np.array([[3, 3, 4, 5, token_purity.NO_LABEL, 4]])
  assert token_purity.purity(tokens, labels) == pytest.approx(4 / 5)


def test_tokens_of_other_pieces_know_less(streams):
  for measure in (token_purity.purity, token_purity.known_share):
    found = measure(*streams)
    by_chance = token_purity.chance(measure, *streams)
    assert found > by_chance + 0.3


def test_a_token_of_the_piece_knows_what_is_constant_and_that_is_chance():
  """One label a piece and one token a piece: nothing is learned of frames."""
  rows = np.arange(30)[:, None] * np.ones((1, 50), int)
  found = token_purity.known_share(rows, rows % 3)
  assert found == pytest.approx(1.0)
  by_chance = token_purity.chance(token_purity.known_share, rows, rows % 3)
  assert by_chance == pytest.approx(1.0)


def test_a_constant_label_has_nothing_to_know():
  tokens = np.arange(4)[None]
  assert token_purity.known_share(tokens, np.zeros((1, 4), int)) == 0.0
