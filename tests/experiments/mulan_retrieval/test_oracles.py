"""A retriever of attributes, against simulation and closed form."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from musiclm_jax.metrics import retrieval

FOLDER = Path(__file__).parents[3] / 'experiments' / 'mulan_retrieval'


@pytest.fixture
def oracles(monkeypatch):
  """The experiment's module."""
  monkeypatch.syspath_prepend(FOLDER)
  return importlib.import_module('oracles')


def _fits(count=24, seed=0):
  """Captions that state some of three attributes of their clips."""
  rng = np.random.default_rng(seed)
  clips = rng.integers(0, 3, (count, 3))
  states = rng.random((count, 3)) < 0.5
  equal = clips[:, None, :] == clips[None, :, :]
  return (equal | ~states[:, None, :]).all(axis=2)


@pytest.mark.parametrize('turned', [False, True])
def test_the_oracle_is_what_random_ties_come_to(turned, oracles):
  scores = oracles.attribute_oracle(_fits())
  scores = scores.T if turned else scores
  rng = np.random.default_rng(1)
  hits, draws = np.zeros(len(scores)), 4000
  for _ in range(draws):
    order = np.lexsort((rng.random(scores.shape), -scores), axis=1)
    hits += (order[:, :3] == np.arange(len(scores))[:, None]).any(axis=1)
  closed = retrieval.recall_at(scores, 3)
  assert 0.1 < closed.mean() < 0.9
  np.testing.assert_allclose(hits / draws, closed, atol=0.04)


def test_the_oracle_over_n_fitting_clips_has_k_of_n(oracles):
  fits = _fits()
  scores = oracles.attribute_oracle(fits)
  np.testing.assert_allclose(scores.sum(axis=1), 1)
  expected = np.minimum(3 / fits.sum(axis=1), 1)
  np.testing.assert_allclose(retrieval.recall_at(scores, 3), expected)


def test_the_oracle_prefers_the_caption_that_fits_fewer_clips(oracles):
  fits = np.array([[True, True], [False, True]])  # the second fits one clip
  np.testing.assert_array_equal(
    retrieval.recall_at(oracles.attribute_oracle(fits).T, 1), [1, 1]
  )


def test_no_retriever_of_the_attributes_beats_the_oracle(oracles):
  fits = _fits(200, seed=3)
  oracle = oracles.attribute_oracle(fits)
  rng = np.random.default_rng(0)
  for scores in (oracle, oracle.T):
    best = retrieval.recall_at(scores, 5).mean()
    other = np.where(scores > 0, rng.random(scores.shape), 0)
    assert retrieval.recall_at(other, 5).mean() < best + 0.05


def test_a_caption_that_is_not_true_of_its_clip_is_refused(oracles):
  with pytest.raises(ValueError, match=r'captions \[1\]'):
    oracles.attribute_oracle(np.array([[True, True], [True, False]]))
