"""The Transformer: parity with T5, causality, padding, cache."""

import functools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from transformer_settings import BERT, LM

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn import relative_bias
from musiclm_jax.nn.transformer import Transformer

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'lm_block.npz'


def _made(settings, length=12):
  transformer = Transformer(**settings)
  x = jax.random.normal(jax.random.key(0), (2, length, 16))
  variables = nn.unbox(jax.jit(transformer.init)(jax.random.key(1), x))
  return transformer, variables, x


def _run(transformer, variables, x, **options):
  """The result of one compiled call."""
  call = jax.jit(lambda v, x: transformer.apply(v, x, **options)[0])
  return np.asarray(call(variables, x))


def _twin_variables(twin):
  """The parameters of T5's twin under our names and shapes."""
  settings = {
    key.removeprefix('settings/'): int(twin[key])
    for key in twin
    if key.startswith('settings/')
  }
  dim, heads = settings['embed_dim'], settings['num_heads']

  def stacked(name, shape):
    return np.stack(
      [
        twin[f'weights/block.{layer}.layer.{name}.weight'].T.reshape(shape)
        for layer in range(settings['num_layers'])
      ]
    )

  own = 'weights/block.0.layer.0.SelfAttention.relative_attention_bias.weight'
  attention = {
    ours: {'kernel': stacked(f'0.SelfAttention.{theirs}', (dim, heads, -1))}
    for ours, theirs in (('query', 'q'), ('key', 'k'), ('value', 'v'))
  }
  attention['out'] = {'kernel': stacked('0.SelfAttention.o', (heads, -1, dim))}
  mlp = {
    ours: {'kernel': stacked(f'2.DenseReluDense.{theirs}', shape)}
    for ours, theirs, shape in (
      ('wide', 'wi_0', (dim, -1)),
      ('gate', 'wi_1', (dim, -1)),
      ('narrow', 'wo', (-1, dim)),
    )
  }
  params = {
    'relative_bias': {'table': twin[own]},
    'final_norm': {'scale': twin['weights/final_layer_norm.weight']},
    'layers': {
      'attention': attention,
      'attention_norm': {'scale': stacked('0.layer_norm', (dim,))},
      'mlp': mlp,
      'mlp_norm': {'scale': stacked('2.layer_norm', (dim,))},
    },
  }
  return settings, {'params': params}


def test_parity_of_the_lm_block_with_t5(equals_twin):
  twin = np.load(FIXTURE)
  settings, variables = _twin_variables(twin)
  transformer = Transformer(causal=True, **settings)
  ours = nn.unbox(
    jax.eval_shape(transformer.init, jax.random.key(0), twin['input'])
  )
  assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, variables)
  y = _run(transformer, variables, twin['input'])
  equals_twin('LM block, T5 relative attention: T5Block', y, twin['output'])


def test_attention_is_used():
  """Mistake 31: self-attention output never used.

  Perturbing token t-1 must move the output at t, in every layer stack.
  """
  transformer, variables, x = _made({**LM, 'num_layers': 1})
  y = _run(transformer, variables, x)
  moved = _run(transformer, variables, x.at[:, 5].add(1.0))
  change = np.abs(moved - y).max(axis=(0, 2))
  assert (change[:5] == 0).all()
  assert (change[5:] > 1e-4).all()


def test_attention_keeps_the_relative_bias():
  """Mistake 29: a fast attention silently drops positional information."""
  transformer, variables, x = _made(LM)
  y = _run(transformer, variables, x)
  table = variables['params']['relative_bias']['table']
  without = {**variables['params'], 'relative_bias': {'table': 0 * table}}
  flat = _run(transformer, {'params': without}, x)
  assert np.abs(flat - y).max() > 1e-3


def test_a_tower_sees_both_directions():
  transformer, variables, x = _made(BERT)
  y = _run(transformer, variables, x)
  moved = _run(transformer, variables, x.at[:, 6].add(1.0))
  assert (np.abs(moved - y).max(axis=(0, 2)) > 1e-5).all()


@pytest.mark.parametrize(
  'change',
  [{'remat': 'full'}, {'remat': 'elementwise'}, {'scan_unroll': 2}],
)
def test_how_it_is_computed_changes_no_result(change):
  transformer, variables, x = _made(LM)

  def gradient(transformer):
    total = jax.grad(lambda v: (transformer.apply(v, x)[0] ** 2).sum())
    return jax.jit(total)(variables)

  expected = gradient(transformer)
  for one, other in zip(
    jax.tree.leaves(gradient(transformer.clone(**change))),
    jax.tree.leaves(expected),
    strict=True,
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('key', ['remat', 'attention_kernel'])
def test_an_unknown_way_is_refused_with_those_that_are_known(key):
  transformer, variables, x = _made(LM)
  with pytest.raises(UsageError, match=f"unknown {key} 'best': choose one of"):
    transformer.clone(**{key: 'best'}).apply(variables, x)


def test_what_is_elementwise_is_computed_again_but_no_product():
  transformer, variables, x = _made({**LM, 'num_layers': 1})

  def products(remat):
    again = transformer.clone(remat=remat)
    total = jax.grad(lambda v: (again.apply(v, x)[0] ** 2).sum())
    return str(jax.make_jaxpr(total)(variables)).count('dot_general[')

  assert products('elementwise') == products('none') < products('full')


def test_dropout_differs_from_layer_to_layer_and_draw_to_draw():
  transformer, variables, x = _made({**LM, 'dropout_rate': 0.5})
  run = jax.jit(
    functools.partial(transformer.apply, variables, x, deterministic=False)
  )
  one, _ = run(rngs={'dropout': jax.random.key(0)})
  again, _ = run(rngs={'dropout': jax.random.key(0)})
  other, _ = run(rngs={'dropout': jax.random.key(1)})
  np.testing.assert_array_equal(one, again)
  assert np.abs(one - other).max() > 0.1
  assert np.mean(one == 0) > 0.3  # the dropout after the final norm


def test_logits_are_unscaled_and_the_query_kernel_pays_for_it():
  dim, heads, width = 512, 2, 64
  transformer = Transformer(
    num_layers=1,
    embed_dim=dim,
    num_heads=heads,
    head_dim=width,
    mlp_dim=8,
    causal=True,
  )
  params = nn.unbox(
    jax.jit(transformer.init)(jax.random.key(0), jnp.zeros((1, 2, dim)))
  )['params']['layers']['attention']
  ratio = params['query']['kernel'].std() / params['key']['kernel'].std()
  assert math.isclose(ratio, 1 / math.sqrt(width), rel_tol=0.05)


def test_kernels_name_their_axes_layers_first():
  transformer = Transformer(**LM)
  boxed = jax.eval_shape(
    transformer.init, jax.random.key(0), jnp.zeros((1, 2, 16))
  )
  specs = nn.get_partition_spec(boxed)['params']['layers']
  kernel = specs['attention']['query']['kernel']
  assert tuple(kernel) == ('layers', 'embed', 'heads', 'head_dim')
  assert tuple(specs['mlp']['narrow']['kernel']) == ('layers', 'mlp', 'embed')


def test_a_row_bias_moves_the_queries_that_take_it():
  transformer, variables, x = _made(LM)
  rows = jnp.array([1] * 6 + [0] * 6)  # row 1 is zero
  table = jnp.zeros((2, 2, 4)).at[:, 0, 1].set(5.0)
  bias = relative_bias.RowBias(table, rows)
  plain = _run(transformer, variables, x)
  biased = _run(transformer, variables, x, row_bias=bias)
  np.testing.assert_allclose(biased[:, :6], plain[:, :6], atol=1e-6)
  assert (np.abs(biased - plain).max((0, 2))[6:] > 1e-3).all()
  cache, parts = transformer.empty_cache(2, 12), []
  for part in (slice(0, 7), slice(7, 12)):
    y, cache = transformer.apply(
      variables,
      x[:, part],
      row_bias=relative_bias.RowBias(table, rows[part]),
      cache=cache,
    )
    parts.append(y)
  np.testing.assert_allclose(jnp.concatenate(parts, 1), biased, atol=1e-5)


def test_a_cache_with_a_mask_is_refused():
  transformer, variables, x = _made(LM)
  with pytest.raises(ValueError, match='cache'):
    transformer.apply(
      variables,
      x,
      cache=transformer.empty_cache(2, 12),
      mask=jnp.ones((2, 12), bool),
    )
