"""Relative biases: buckets and Toeplitz matrices."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn import relative_bias

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'lm_block.npz'


def test_buckets_equal_t5s():
  twin = np.load(FIXTURE)
  for setting, expected in zip(
    twin['bucketings'], twin['buckets'], strict=True
  ):
    num_buckets, max_distance, bidirectional = setting
    buckets = relative_bias.relative_bucket(
      twin['distances'],
      num_buckets=int(num_buckets),
      max_distance=int(max_distance),
      bidirectional=bool(bidirectional),
    )
    np.testing.assert_array_equal(buckets, expected)


@pytest.mark.parametrize(
  'num_queries,num_keys', [(1, 1), (1, 5), (4, 4), (3, 7)]
)
def test_toeplitz_has_constant_diagonals(num_queries, num_keys):
  row = np.arange(2.0 * (num_queries + num_keys - 1)).reshape(2, -1)
  matrix = relative_bias.toeplitz(jnp.asarray(row), num_queries)
  assert matrix.shape == (2, num_queries, num_keys)
  for i in range(num_queries):
    for j in range(num_keys):
      np.testing.assert_array_equal(
        matrix[:, i, j], row[:, num_queries - 1 - i + j]
      )


def test_the_gradient_of_toeplitz_sums_diagonals():
  tile = np.arange(24.0, dtype=np.float32).reshape(1, 4, 6)
  row = jax.ShapeDtypeStruct((1, 9), jnp.float32)
  lay_back = jax.linear_transpose(lambda r: relative_bias.toeplitz(r, 4), row)
  (total,) = lay_back(jnp.asarray(tile))
  expected = [np.trace(tile[0], k - 3) for k in range(9)]
  np.testing.assert_allclose(total[0], expected)


def test_buckets_beyond_the_maximal_distance_are_refused():
  with pytest.raises(UsageError, match='maximal distance'):
    relative_bias.relative_bucket(
      np.arange(4), num_buckets=64, max_distance=32, bidirectional=False
    )
