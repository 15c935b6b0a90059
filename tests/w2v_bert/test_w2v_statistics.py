import numpy as np
import pytest

from musiclm_jax.w2v_bert.frontend import (
  add_frames,
  init_statistics,
  standardise,
)


@pytest.fixture(scope='module')
def batches():
  rng = np.random.default_rng(0)
  scale = np.array([0.01, 1.0, 30.0])
  return [
    (rng.normal(rng.normal(), 1, (4, n, 3)) * scale + 5 * scale).astype(
      np.float32
    )
    for n in (7, 50, 20)
  ]


def test_statistics_of_batches_are_those_of_the_corpus(batches):
  statistics = init_statistics(3, mean=-7.0, variance=9.0)
  for batch in batches:
    statistics = add_frames(statistics, batch)
  corpus = np.concatenate([b.reshape(-1, 3) for b in batches])
  assert statistics['count'] == len(corpus)
  np.testing.assert_allclose(statistics['mean'], corpus.mean(0), rtol=1e-4)
  np.testing.assert_allclose(statistics['variance'], corpus.var(0), rtol=1e-3)


def test_each_dimension_is_normalised_over_the_corpus_not_each_vector(batches):
  """Mistake 20: normalising per vector instead of per dimension."""
  statistics = init_statistics(3)
  for batch in batches:
    statistics = add_frames(statistics, batch)
  corpus = np.concatenate([b.reshape(-1, 3) for b in batches])
  x = np.asarray(standardise(statistics, corpus))
  np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-3)
  np.testing.assert_allclose(x.std(axis=0)[1:], 1.0, atol=1e-3)
  # A loud frame stays a loud frame: the map does not depend on the vector.
  assert x.mean(axis=1).std() > 0.1
  alone = standardise(statistics, corpus[:1])
  np.testing.assert_array_equal(alone, x[:1])


def test_initial_values_hold_until_frames_come(batches):
  statistics = init_statistics(3, mean=2.0, variance=4.0)
  x = standardise(statistics, np.array([[4.0, 2.0, 0.0]]))
  np.testing.assert_allclose(x, [[1.0, 0.0, -1.0]], atol=1e-4)


def test_statistics_with_a_memory_follow_data_that_drift():
  statistics = init_statistics(1)
  for mean in [0.0] * 50 + [8.0] * 50:
    statistics = add_frames(statistics, np.full((10, 1), mean), memory=5.0)
  np.testing.assert_allclose(statistics['mean'], 8.0, atol=0.01)
  np.testing.assert_allclose(statistics['variance'], 0.0, atol=0.05)
