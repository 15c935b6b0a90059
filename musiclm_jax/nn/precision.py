"""Precision, set in one place: training is fast, what makes codes is exact.

A TPU multiplies float32 as bfloat16 and a GPU as TF32 unless it is told
otherwise, so that the codes of one clip would differ from machine to machine.
Full precision costs six passes on a TPU and the tensor cores on a GPU. So
layers leave the precision of their products to what is set around them:
nothing in training, where a network computes in its `dtype`, and `exact`
around what makes codes. Spectra, distances to codebooks, running statistics
and the products of losses are exact by themselves, in training too.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax

Function = TypeVar('Function', bound=Callable)


def exact(function: Function) -> Function:
  """Computes all products of float32 in a function in float32."""

  @functools.wraps(function)
  def traced(*args, **kwargs):
    with jax.default_matmul_precision('highest'):
      return function(*args, **kwargs)

  return traced
