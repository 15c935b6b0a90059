"""The one way to a large parameter: made with axis names, used whole."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts import sharding


def parameter(
  module: nn.Module,
  name: str,
  init: Callable,
  shape: Sequence[int],
  axes: Sequence[str | None],
  dtype: jnp.dtype | str = jnp.float32,
) -> Array:
  """Makes or reads a float32 parameter of a module, for use in `dtype`.

  It lies over devices as its axes say; what comes back is whole over those
  that share it only to save memory, see `sharding.gather`. It is cast first,
  so that half as many bytes travel in bfloat16.

  Args:
    module: Whose parameter it is.
    name: Of the parameter.
    init: Initializer, `(key, shape) -> values`.
    shape: Of the parameter.
    axes: Logical axis name of each dimension or None, see `sharding.RULES`.
    dtype: Compute type.
  """
  boxed = nn.with_logical_partitioning(init, tuple(axes))
  value = module.param(name, boxed, tuple(shape))
  return sharding.gather(value.astype(dtype), axes)
