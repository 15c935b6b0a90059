"""What code wants of XLA, where this version of it knows of that."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp


def understood(
  wanted: Mapping[str, Mapping[str, str]], platform: str
) -> dict[str, str] | None:
  """Returns the options of a platform, or None where XLA refuses them.

  Args:
    wanted: Platform -> option -> value.
    platform: Such as 'cpu'.
  """
  options = wanted.get(platform)
  return dict(options) if options and _works(tuple(options.items())) else None


@functools.cache
def _works(options: tuple[tuple[str, str], ...]) -> bool:
  """Whether a program compiles with them."""
  try:
    tried = jax.jit(jnp.zeros_like, compiler_options=dict(options))
    tried.lower(0.0).compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True
