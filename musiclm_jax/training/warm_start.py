"""A fresh state with given weights and codebooks in it."""

from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training.checkpoint import flatten
from musiclm_jax.training.state import TrainState


def start_from(
  state: TrainState,
  params: PyTree,
  collections: PyTree | None,
  fresh: Collection[str] = (),
) -> TrainState:
  """Puts given weights and codebooks into a fresh state.

  Args:
    state: Of no steps.
    params: By player; only a part of them where `collections` is None, such
      as a pretrained tower. The others keep their random values.
    collections: By player.
    fresh: Players that are not given and keep their random values, such as
      the discriminators that a bundle lacks.

  Raises:
    UsageError: Naming the first array that is missing, spare or of another
      shape.
  """
  whole = collections is not None
  given = flatten({'params': params, 'collections': collections or {}})
  ours = {'params': state.params, 'collections': state.collections}
  wanted = flatten(ours)
  compared = set(given)
  if whole:
    compared |= {name for name in wanted if name.split('/')[1] not in fresh}
  for name in sorted(compared):
    shapes = [
      tuple(np.shape(d[name])) if name in d else 'nothing'
      for d in (given, wanted)
    ]
    if shapes[0] != shapes[1]:
      raise UsageError(
        f'the weights to start from have {shapes[0]} at {name}, this config '
        f'needs {shapes[1]}: use the config of those weights'
      )
  placed = jax.tree.map(
    lambda leaf, name: (
      jax.device_put(np.asarray(given[name], leaf.dtype), leaf.sharding)
      if name in given
      else leaf
    ),
    ours,
    jax.tree.unflatten(jax.tree.structure(ours), list(wanted)),
  )
  averaged = jax.tree.map(jnp.copy, placed['params'])
  return state.replace(**placed, ema_params=state.ema_params and averaged)
