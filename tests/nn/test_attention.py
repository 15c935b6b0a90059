"""Attention: relative buckets, Toeplitz bias, blocks of queries."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import attention, relative_bias

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


def _inputs(length, heads=2, width=4):
  keys = jax.random.split(jax.random.key(0), 4)
  query, key, value = (
    jax.random.normal(k, (3, heads, length, width)) for k in keys[:3]
  )
  return query, key, value, jax.random.normal(keys[3], (heads, 2 * length - 1))


@pytest.mark.parametrize('causal', [True, False])
def test_blocks_of_queries_equal_the_whole(causal):
  length = 11
  *qkv, row = _inputs(length)
  mask = jnp.arange(length) < jnp.array([[11], [7], [3]])

  @functools.partial(jax.jit, static_argnums=0)
  def run(block, qkv, row):
    return attention.attend_whole(
      *qkv, bias_row=row, mask=mask, causal=causal, block=block
    )

  whole = run(0, qkv, row)
  np.testing.assert_allclose(run(4, qkv, row), whole, atol=1e-5)
  grads = [
    jax.jit(jax.grad(lambda q, r, b=block: (run(b, q, r) ** 2).sum(), (0, 1)))(
      qkv, row
    )
    for block in (0, 4)
  ]
  for one, other in zip(*map(jax.tree.leaves, grads), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_bias_depends_on_query_minus_key():
  length = 6
  *qkv, row = _inputs(length)
  distance = np.arange(length)[:, None] - np.arange(length)
  bias = row[:, length - 1 - distance]
  expected = attention.attend(*qkv, bias=bias, allowed=None)
  actual = attention.attend_whole(
    *qkv, bias_row=row, mask=None, causal=False, block=0
  )
  np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_buckets_beyond_the_maximal_distance_are_refused():
  with pytest.raises(ValueError, match='maximal distance'):
    relative_bias.relative_bucket(
      np.arange(4), num_buckets=64, max_distance=32, bidirectional=False
    )


def test_fully_masked_rows_stay_finite():
  *qkv, row = _inputs(5)
  result = attention.attend_whole(
    *qkv, bias_row=row, mask=jnp.zeros((3, 5), bool), causal=True, block=2
  )
  assert np.isfinite(result).all()
