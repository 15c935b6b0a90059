"""FLOPs of one matrix product or convolution, read off its equation."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_PASSES = {jax.lax.Precision.HIGHEST: 6, jax.lax.Precision.HIGH: 3}


def passes(equation: Any) -> int:
  """Says how often a bfloat16 unit runs for one product of its operands."""
  if any(atom.aval.dtype != jnp.float32 for atom in equation.invars[:2]):
    return 1
  precision = equation.params['precision'] or (None,)
  return max(_PASSES.get(side, 1) for side in precision)


def _product_flops(equation: Any) -> float:
  left = equation.invars[0].aval.shape
  (contracted, _), _ = equation.params['dimension_numbers']
  inner = math.prod(left[axis] for axis in contracted)
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * inner


def _convolution_flops(equation: Any) -> float:
  params = equation.params
  left, right = (atom.aval.shape for atom in equation.invars[:2])
  out = equation.outvars[0].aval.shape
  numbers = params['dimension_numbers']
  flops = 2.0 * left[numbers.lhs_spec[0]] / params['batch_group_count']
  flops *= right[numbers.rhs_spec[0]] * right[numbers.rhs_spec[1]]
  for axis, stride in enumerate(params['window_strides']):
    flops *= _pairs(
      left[numbers.lhs_spec[2 + axis]],
      right[numbers.rhs_spec[2 + axis]],
      out[numbers.out_spec[2 + axis]],
      stride,
      params['padding'][axis][0],
      params['lhs_dilation'][axis],
      params['rhs_dilation'][axis],
    )
  return flops


@functools.cache
def _pairs(
  size: int,
  kernel: int,
  out: int,
  stride: int,
  low: int,
  dilation: int,
  kernel_dilation: int,
) -> int:
  """Pairs of an output and a tap that meet a real input, not a zero."""
  place = np.arange(out, dtype=np.int64) * stride - low
  total = 0
  for tap in range(kernel):
    at = place + tap * kernel_dilation
    inside = (at >= 0) & (at <= (size - 1) * dilation) & (at % dilation == 0)
    total += int(inside.sum())
  return total


PRODUCTS: Mapping[str, Callable[[Any], float]] = {
  'dot_general': _product_flops,
  'conv_general_dilated': _convolution_flops,
}
