"""Claims about convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn import conv, convolution
from musiclm_jax.nn.cpu import convolution as cpu_convolution


def _apply(layer, x):
  variables = nn.unbox(layer.init(jax.random.key(0), x))
  return layer.apply(variables, x), variables


def _noise(*shape):
  return jax.random.normal(jax.random.key(1), shape)


def test_a_length_that_the_stride_does_not_divide_is_refused():
  with pytest.raises(UsageError, match='multiple of the stride 4'):
    _apply(conv.CausalConv(3, 8, stride=4), _noise(1, 22, 2))


@pytest.mark.parametrize(
  'channels, features', [(1, 8), (8, 1), (2, 4), (8, 8), (3, 5)]
)
@pytest.mark.parametrize('padding', [((3, 3),), ((6, 0),), 'SAME'])
def test_packed_conv_is_the_plain_conv(channels, features, padding):
  x, kernel = _noise(2, 32, channels), _noise(7, channels, features)
  mine = conv._convolve(x, kernel, (1,), padding, (1,), 1)
  plain = jax.lax.conv_general_dilated(
    x, kernel, (1,), padding, dimension_numbers=('NTC', 'TIO', 'NTC')
  )
  np.testing.assert_allclose(mine, plain, atol=1e-4)


def test_packed_conv_is_the_plain_conv_in_two_dimensions():
  x, kernel = _noise(2, 9, 16, 2), _noise(3, 7, 2, 4)

  def packed(x, kernel):
    return conv._convolve(x, kernel, (1, 1), 'SAME', (1, 1), 1)

  def plain(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  for mine, theirs in zip(
    jax.vjp(packed, x, kernel)[1](plain(x, kernel)),
    jax.vjp(plain, x, kernel)[1](plain(x, kernel)),
    strict=True,
  ):
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
  ('taps', 'stride', 'samples'), [(5, 4, 40), (41, 4, 93), (7, 2, 9), (3, 4, 8)]
)
def test_grouped_conv_and_its_gradients_are_laxs(taps, stride, samples):
  x, kernel = _noise(2, samples, 8), _noise(taps, 4, 6)
  sides = (taps // 2, taps // 2)

  def grouped(x, kernel):
    return conv._convolve(x, kernel, (stride,), (sides,), (1,), 2)

  def laxs(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride,),
      [sides],
      dimension_numbers=('NTC', 'TIO', 'NTC'),
      feature_group_count=2,
    )

  expected, pull_back = jax.vjp(laxs, x, kernel)
  mine, my_pull_back = jax.vjp(grouped, x, kernel)
  np.testing.assert_allclose(mine, expected, atol=2e-5)
  for ours, theirs in zip(my_pull_back(mine), pull_back(mine), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_transposed_conv_is_laxs_cut_to_the_stride():
  layer = conv.CausalTransposedConv(3, 4)
  x = _noise(2, 6, 5)
  (y, _), variables = _apply(layer, x)
  kernel = variables['params']['kernel']
  theirs = jax.lax.conv_transpose(
    x,
    jnp.flip(kernel, 0),
    (4,),
    [(7, 7)],
    dimension_numbers=('NTC', 'TIO', 'NTC'),
    transpose_kernel=False,
  )
  assert y.shape == (2, 24, 3)
  np.testing.assert_allclose(y, theirs[:, :24], atol=1e-5)


def test_weight_norm_makes_the_length_a_parameter():
  layer = conv.Conv(3, (5,), weight_norm=True, use_bias=False)
  x = _noise(1, 9, 2)
  y, variables = _apply(layer, x)
  params = variables['params']
  longer = {**params, 'kernel': 7.0 * params['kernel']}
  np.testing.assert_allclose(layer.apply({'params': longer}, x), y, atol=1e-5)
  louder = {**params, 'scale': 2.0 * params['scale']}
  np.testing.assert_allclose(
    layer.apply({'params': louder}, x), 2.0 * y, atol=1e-5
  )


@pytest.mark.parametrize('samples', [32, 61])
def test_dilated_conv_in_phases_is_the_plain_conv(samples):
  x, kernel = _noise(2, samples, 8), _noise(7, 8, 8)
  mine = conv._convolve(x, kernel, (1,), ((18, 0),), (3,), 1)
  plain = jax.lax.conv_general_dilated(
    x,
    kernel,
    (1,),
    [(18, 0)],
    rhs_dilation=(3,),
    dimension_numbers=('NTC', 'TIO', 'NTC'),
  )
  np.testing.assert_allclose(mine, plain, atol=1e-4)


@pytest.mark.parametrize('samples', [27, 31])
@pytest.mark.parametrize('padding', [(18, 0), (9, 9), (0, 5)])
def test_dilated_conv_side_by_side_and_its_gradients_are_laxs(samples, padding):
  x, kernel = _noise(2, samples, 4), _noise(7, 4, 5)
  window = convolution.ConvWindow((1,), (padding,), (3,))
  expected, pull_back = jax.vjp(
    lambda x, k: convolution.convolve_native(x, k, window), x, kernel
  )
  mine, my_pull_back = jax.vjp(
    lambda x, k: convolution.convolve_side_by_side(x, k, window), x, kernel
  )
  np.testing.assert_allclose(mine, expected, atol=1e-4)
  for ours, theirs in zip(my_pull_back(mine), pull_back(mine), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize('stride, taps', [(1, 5), (2, 1), (3, 4)])
def test_gradients_in_canonical_form_are_the_native_ones(stride, taps):
  x, kernel = _noise(2, 20, 40), _noise(taps, 40, 40)
  window = convolution.ConvWindow((stride,), ((taps // 2, taps // 2),), (1,))
  y, canonical = jax.vjp(
    lambda x, k: cpu_convolution.convolve_canonical(x, k, window), x, kernel
  )
  _, native = jax.vjp(
    lambda x, k: convolution.convolve_native(x, k, window), x, kernel
  )
  for mine, theirs in zip(canonical(y), native(y), strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-2)
