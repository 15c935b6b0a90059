"""Whole-sequence attention: equal to the dense one, linear in memory."""

import functools

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.attention import attend, cudnn_attention
from musiclm_jax.nn.blockwise_attention import blockwise_attention
from musiclm_jax.nn.relative_bias import RowBias

BATCH, HEADS, WIDTH = 3, 2, 4
NAMES = ('query', 'key', 'value', 'bias_row', 'table')


def _inputs(length, dtype=jnp.float32):
  keys = jax.random.split(jax.random.key(0), 5)
  shape = (BATCH, HEADS, length, WIDTH)
  query, key, value = (
    jax.random.normal(k, shape).astype(dtype) for k in keys[:3]
  )
  row = jax.random.normal(keys[3], (HEADS, 2 * length - 1))
  table = jax.random.normal(keys[4], (HEADS, 3, length // 2))
  return query, key, value, row, table


def _rows(length):
  return jnp.arange(length) * 2 % 3


def _dense(query, key, value, row, table, *, mask, causal):
  """softmax(q k + biases) v as it is written, all pairs at once."""
  length = query.shape[2]
  distance = np.arange(length)[:, None] - np.arange(length)
  logits = jnp.einsum('bhqd,bhkd->bhqk', query, key)
  logits += row[:, length - 1 - distance]
  missing = length - table.shape[2]
  by_row = jnp.pad(table, ((0, 0), (0, 0), (0, missing)))
  logits += by_row[:, _rows(length)]
  allowed = jnp.asarray(distance >= 0) if causal else jnp.ones((), bool)
  if mask is not None:
    allowed = allowed & mask[:, None, None]
  logits = jnp.where(allowed, logits, -jnp.inf)
  return jnp.einsum('bhqk,bhkd->bhqd', jax.nn.softmax(logits), value)


def _blockwise(query, key, value, row, table, *, block, **options):
  return blockwise_attention(
    query,
    key,
    value,
    bias_row=row,
    row_bias=RowBias(table, _rows(query.shape[2])),
    block=block,
    **options,
  )


def _value_and_gradients(attend, inputs, weights):
  def total(*inputs):
    y = attend(*inputs)
    return jnp.sum(y * weights), y

  (_, y), gradients = jax.jit(
    jax.value_and_grad(total, range(len(inputs)), has_aux=True)
  )(*inputs)
  return {'y': y} | dict(zip(NAMES, gradients, strict=True))


@pytest.mark.parametrize(
  'length,block,causal,masked',
  [
    (8, 4, True, False),
    (11, 4, True, True),
    (11, 4, False, False),
    (11, 4, False, True),
    (7, 16, False, True),
  ],
)
def test_it_equals_the_dense_attention_and_so_do_all_gradients(
  length, block, causal, masked
):
  inputs = _inputs(length)
  # Each row keeps a key at 0: no query is left without any.
  mask = jnp.arange(length) < jnp.array([[length], [length - 3], [1]])
  options = {'mask': mask if masked else None, 'causal': causal}
  weights = jax.random.normal(jax.random.key(1), inputs[0].shape)
  ours, dense = (
    _value_and_gradients(functools.partial(attend, **options), inputs, weights)
    for attend in (functools.partial(_blockwise, block=block), _dense)
  )
  for name, expected in dense.items():
    np.testing.assert_allclose(ours[name], expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
  'length,causal,masked',
  [(8, True, False), (11, True, True), (11, False, False), (11, False, True)],
)
def test_what_cudnn_is_given_makes_the_same(length, causal, masked):
  """With the same call's plain implementation, where no GPU is."""
  inputs = _inputs(length)
  mask = jnp.arange(length) < jnp.array([[length], [length - 3], [1]])
  options = {'mask': mask if masked else None, 'causal': causal}
  weights = jax.random.normal(jax.random.key(1), inputs[0].shape)

  def given(query, key, value, row, table):
    rows = RowBias(table, _rows(length))
    return cudnn_attention(
      query,
      key,
      value,
      bias_row=row,
      row_bias=rows,
      implementation='xla',
      **options,
    )

  dense = functools.partial(_dense, **options)
  expected = _value_and_gradients(dense, inputs, weights)
  ours = _value_and_gradients(given, inputs, weights)
  for name, value in expected.items():
    np.testing.assert_allclose(ours[name], value, atol=1e-5, err_msg=name)


@pytest.mark.skipif(jax.default_backend() == 'gpu', reason='cuDNN is here')
def test_without_a_gpu_cudnn_is_refused_in_one_line():
  query, key, value, *_ = _inputs(8)
  with pytest.raises(UsageError, match="here is float32 on cpu: use 'blockw"):
    cudnn_attention(query, key, value, causal=True)


def test_what_cudnn_trained_is_computed_blockwise_where_there_is_no_gpu():
  query, key, value, row, _ = _inputs(8)
  one, other = (
    attend(query, key, value, bias_row=row, causal=True, kernel=kernel)
    for kernel in ('cudnn', 'blockwise')
  )
  np.testing.assert_array_equal(one, other)


def test_a_query_without_keys_gets_zeros_and_sends_none_back():
  inputs = _inputs(6)
  mask = jnp.arange(6) >= jnp.array([[6], [2], [0]])
  attend = functools.partial(_blockwise, mask=mask, causal=True, block=4)
  results = _value_and_gradients(attend, inputs, jnp.ones(inputs[0].shape))
  np.testing.assert_array_equal(results['y'][0], 0)
  np.testing.assert_array_equal(results['y'][1, :, :2], 0)
  for name in NAMES[:3]:
    np.testing.assert_array_equal(results[name][0], 0)
  assert all(np.isfinite(x).all() for x in results.values())


@pytest.mark.parametrize('causal', [True, False])
def test_memory_grows_linearly_with_the_length(causal):
  def temporaries(length):
    x = jax.ShapeDtypeStruct((1, 2, length, 8), jnp.float32)
    row = jax.ShapeDtypeStruct((2, 2 * length - 1), jnp.float32)

    def total(query, key, value, row):
      return jnp.sum(
        blockwise_attention(
          query, key, value, bias_row=row, causal=causal, block=64
        )
        ** 2
      )

    step = jax.jit(jax.grad(total, (0, 1, 2, 3)))
    analysis = step.lower(x, x, x, row).compile().memory_analysis()
    return analysis.temp_size_in_bytes

  one, two = temporaries(1024), temporaries(2048)
  assert two <= 2.2 * one
  assert two < 2048 * 2048  # an eighth of the logits of both heads


def _dots(jaxpr):
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      yield equation
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from _dots(inner)


def test_bfloat16_is_for_operands_and_float32_for_sums():
  inputs = _inputs(8, jnp.bfloat16)[:3]
  row = _inputs(8)[3]

  def attend(query, key, value, row):
    return blockwise_attention(
      query, key, value, bias_row=row, causal=True, block=4
    )

  def gradients(*inputs):
    y, pull = jax.vjp(attend, *inputs)
    return y, pull(y)

  y, (dquery, dkey, dvalue, drow) = jax.jit(gradients)(*inputs, row)
  assert {x.dtype for x in (y, dquery, dkey, dvalue)} == {jnp.bfloat16.dtype}
  assert drow.dtype == jnp.float32
  dots = list(_dots(jax.make_jaxpr(gradients)(*inputs, row).jaxpr))
  assert len(dots) == 7
  for dot in dots:
    assert {x.aval.dtype.name for x in dot.invars} == {'bfloat16'}
    assert dot.outvars[0].aval.dtype == jnp.float32
  exact = jax.jit(attend)(*(x.astype(jnp.float32) for x in inputs), row)
  np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.05)
