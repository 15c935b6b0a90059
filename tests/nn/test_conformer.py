import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.conformer import (
  Conformer,
  attend_to_all,
  attend_to_neighbours,
  relative_positions,
  shift_to_keys,
)

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'conformer.npz'
KWARGS = {'num_layers': 2, 'num_heads': 2, 'mlp_dim': 24, 'kernel_size': 5}


def made(x, **kwargs):
  model = Conformer(**(KWARGS | kwargs))
  return model, nn.unbox(jax.jit(model.init)(jax.random.key(0), x))


@pytest.fixture(scope='module')
def x():
  return jax.random.normal(jax.random.key(1), (2, 9, 12))


def copied(weight, heads):
  """transformers' weights as the parameters and statistics of one block."""

  def linear(name, *shape):
    kernel = {'kernel': weight[f'{name}.weight'].squeeze().T.reshape(shape)}
    if f'{name}.bias' in weight:
      kernel['bias'] = weight[f'{name}.bias'].reshape(shape[1:])
    return kernel

  def norm(name):
    return {'scale': weight[f'{name}.weight'], 'bias': weight[f'{name}.bias']}

  def feed_forward(name):
    hidden, dim = weight[f'{name}.intermediate_dense.weight'].shape
    return {
      'norm': norm(f'{name}_layer_norm'),
      'wide': linear(f'{name}.intermediate_dense', dim, hidden),
      'narrow': linear(f'{name}.output_dense', hidden, dim),
    }

  dim = len(weight['final_layer_norm.bias'])
  split = (dim, heads, dim // heads)
  out = linear('self_attn.linear_out', dim, dim)
  out['kernel'] = out['kernel'].reshape(heads, dim // heads, dim)
  params = {
    'feed_forward_1': feed_forward('ffn1'),
    'feed_forward_2': feed_forward('ffn2'),
    'attention_norm': norm('self_attn_layer_norm'),
    'final_norm': norm('final_layer_norm'),
    'attention': {
      'query': linear('self_attn.linear_q', *split),
      'key': linear('self_attn.linear_k', *split),
      'value': linear('self_attn.linear_v', *split),
      'position': linear('self_attn.linear_pos', *split),
      'content_bias': weight['self_attn.pos_bias_u'],
      'position_bias': weight['self_attn.pos_bias_v'],
      'out': out,
    },
    'conv': {
      'norm': norm('conv_module.layer_norm'),
      'wide': linear('conv_module.pointwise_conv1', dim, 2, dim),
      'depthwise': weight['conv_module.depthwise_conv.weight'].squeeze().T,
      'conv_norm': norm('conv_module.batch_norm'),
      'narrow': linear('conv_module.pointwise_conv2', dim, dim),
    },
  }
  statistics = {
    'mean': weight['conv_module.batch_norm.running_mean'],
    'var': weight['conv_module.batch_norm.running_var'],
  }
  return params, {'conv': {'conv_norm': statistics}}


def test_parity_with_transformers_conformer_layer(equals_twin):
  with np.load(FIXTURE) as file:
    arrays = dict(file)
  weight = {
    k.removeprefix('weight.'): v
    for k, v in arrays.items()
    if k.startswith('weight.')
  }
  params, statistics = copied(weight, heads=2)
  variables = {
    'params': {'blocks': params},
    'batch_stats': {'blocks': statistics},
  }
  variables = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], variables)
  model = Conformer(1, 2, 32, conv_norm='batch')
  shapes = jax.eval_shape(model.init, jax.random.key(0), arrays['x'])
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
    jnp.shape, nn.unbox(shapes)
  )
  y = model.apply(variables, arrays['x'])
  equals_twin('Conformer block: Wav2Vec2ConformerEncoderLayer', y, arrays['y'])


def test_shift_picks_the_distance_of_query_and_key():
  length = 5
  distance = jnp.arange(length - 1, -length, -1)
  shifted = shift_to_keys(jnp.broadcast_to(distance, (2, length, 9)))
  query, key = np.mgrid[:length, :length]
  np.testing.assert_array_equal(shifted[1], query - key)


def test_positions_are_sinusoids_of_the_distance():
  table = relative_positions(4, 6)
  assert table.shape == (7, 6)
  np.testing.assert_allclose(table[3], [0, 1, 0, 1, 0, 1], atol=1e-7)
  np.testing.assert_allclose(table[0, 0], np.sin(3.0), atol=1e-6)
  np.testing.assert_allclose(table[6, 0], np.sin(-3.0), atol=1e-6)


def attention_inputs(length, positions):
  """Queries twice, keys, values [2, T, 3, 4] and positions [P, 3, 4]."""
  rng = np.random.default_rng(length)
  shapes = 4 * [(2, length, 3, 4)] + [(positions, 3, 4)]
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def attend_with_a_mask(*inputs, window):
  """The logits of all pairs, then a mask, plainly."""
  by_content, by_position, key, value, position = inputs
  length = key.shape[1]
  logits = jnp.einsum('bqhd,bkhd->bhqk', by_content, key) + shift_to_keys(
    jnp.einsum('bqhd,phd->bhqp', by_position, position)
  )
  query, other = np.mgrid[:length, :length]
  hidden = np.where(abs(query - other) <= window, 0.0, -np.inf)
  weights = jax.nn.softmax(logits / 2.0 + hidden, axis=-1)
  return jnp.einsum('bhqk,bkhd->bqhd', weights, value)


@pytest.mark.parametrize(
  ('length', 'window'), [(20, 4), (23, 5), (7, 1), (9, 6), (12, 11)]
)
def test_limited_attention_is_masked_attention(length, window):
  """Lengths that blocks divide, that they do not, and of less than two."""
  inputs = attention_inputs(length, 2 * length - 1)
  target = np.random.default_rng(0).normal(size=inputs[0].shape)
  first = length - 1 - window

  def limited(*inputs):
    *rest, position = inputs
    near = position[first : first + 2 * window + 1]
    return attend_to_neighbours(*rest, near)

  def masked(*inputs):
    return attend_with_a_mask(*inputs, window=window)

  @functools.partial(jax.jit, static_argnums=0)
  def both(attend, *inputs):
    y, backward = jax.vjp(attend, *inputs)
    return y, *backward(target.astype(np.float32))

  found, expected = both(limited, *inputs), both(masked, *inputs)
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_a_window_as_long_as_the_clip_changes_nothing(x):
  model, variables = made(x)

  def limited(frames):
    return jax.jit(model.clone(attention_frames=frames).apply)(variables, x)

  expected = limited(None)
  np.testing.assert_array_equal(limited(8), expected)
  assert jnp.abs(limited(2) - expected).max() > 1e-3


def test_limited_attention_is_linear_in_the_length():
  """Nothing in it is as large as a matrix of all pairs."""
  length, window = 4096, 8

  def largest(attend, positions):
    traced = jax.make_jaxpr(attend)(*attention_inputs(length, positions))
    return max(out.aval.size for eqn in traced.eqns for out in eqn.outvars)

  every = 2 * 3 * length**2
  assert largest(attend_to_all, 2 * length - 1) >= every
  assert largest(attend_to_neighbours, 2 * window + 1) < every / 100


def test_remat_changes_neither_loss_nor_gradient(x):
  gradients = []
  for remat in ('none', 'full'):
    model, variables = made(x, remat=remat)
    loss = lambda p, model=model: (model.apply({'params': p}, x) ** 3).sum()  # noqa: E731
    gradients.append(jax.jit(jax.grad(loss))(variables['params']))
  for a, b in zip(*map(jax.tree.leaves, gradients), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_batch_norm_statistics_move_in_training_only(x):
  model, variables = made(x, conv_norm='batch')
  for deterministic in (True, False):
    _, new = model.apply(
      variables, x, deterministic=deterministic, mutable=['batch_stats']
    )
    same = jax.tree.map(
      lambda a, b: bool((a == b).all()),
      new['batch_stats'],
      variables['batch_stats'],
    )
    assert all(jax.tree.leaves(same)) == deterministic


def test_dropout_acts_in_training_only(x):
  model, variables = made(x, dropout_rate=0.5)
  a, b = (
    model.apply(
      variables, x, deterministic=False, rngs={'dropout': jax.random.key(k)}
    )
    for k in (0, 1)
  )
  assert jnp.abs(a - b).max() > 1e-3
  np.testing.assert_array_equal(
    model.apply(variables, x), model.apply(variables, x)
  )


def test_block_has_the_paper_size():
  """604.8 M parameters in 24 blocks of 1,024 with 8 heads (2108.06209)."""
  model = Conformer(24, 8, 4096, conv_norm='batch')
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 8, 1024))
  )['params']
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert count == 604_790_784


def test_bad_shapes_are_refused():
  with pytest.raises(UsageError, match='heads divide'):
    made(jnp.zeros((1, 4, 9)))
