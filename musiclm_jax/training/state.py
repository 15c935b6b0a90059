"""The state of a training: all that must survive a crash, in one struct."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import Batch, Task

_UNOPTIMISED = {'xla_backend_optimization_level': 0}


@struct.dataclass
class TrainState:
  """What a checkpoint holds.

  Attributes:
    step: Steps done, int32; step k reads batch k.
    params: Player -> parameters.
    ema_params: Player -> moving average of the parameters; empty where off.
    opt_state: Player -> optimizer state.
    collections: Player -> codebooks and statistics.
    rng: Key data of the training noise; each step folds its number in.
    refused: Steps refused because a loss or gradient was not finite, int32.
    refused_in_a_row: Of those, the ones since the last good step, int32.
    rolled_back: The step after which the run went back to the parameters of
      an older checkpoint, int32; 0 is never.
  """

  step: jax.Array
  params: PyTree
  ema_params: PyTree
  opt_state: PyTree
  collections: PyTree
  rng: jax.Array
  refused: jax.Array
  refused_in_a_row: jax.Array
  rolled_back: jax.Array

  @property
  def inference_params(self) -> PyTree:
    """The moving average where there is one, else the parameters."""
    return self.ema_params or self.params


def init_state(
  task: Task,
  optimizers: Mapping[str, optax.GradientTransformation],
  batch: Batch,
  *,
  seed: int = 0,
  with_ema: bool = False,
) -> TrainState:
  """Makes the first state, boxed as `task.init` boxes its parameters.

  No leaf is weakly typed, which a Python number in an initializer makes: the
  first step would compile one program for it and the second another, and in
  bfloat16 compute something else.
  """
  init_key, train_key = jax.random.split(jax.random.key(seed))
  params, collections = task.init(init_key, batch)
  zero = jnp.zeros((), jnp.int32)
  state = TrainState(
    step=zero,
    params=params,
    # A copy in another buffer: the step donates both.
    ema_params=jax.tree.map(jnp.copy, params) if with_ema else {},
    opt_state={
      player: optimizer.init(params[player])
      for player, optimizer in optimizers.items()
    },
    collections=collections,
    rng=jax.random.key_data(train_key),
    refused=zero,
    refused_in_a_row=zero,
    rolled_back=zero,
  )
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)


def abstract_state(
  init: Callable[[Batch], TrainState], batch: Batch, mesh: Mesh
) -> TrainState:
  """Describes the unboxed state: shape, dtype and sharding of every leaf.

  Nothing is computed, so this works for a network of any size and for a mesh
  of devices that are not there. Optimizer statistics inherit the axes of
  their parameter, since they are made from the boxed one.

  Args:
    init: `init_state` of a task.
    batch: A global one, or its shapes.
    mesh: Where the state will lie.
  """
  boxed = jax.eval_shape(init, batch)
  return jax.tree.map(
    lambda leaf, where: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=where
    ),
    nn.unbox(boxed),
    sharding.shardings_of(boxed, mesh),
  )


def create_state(
  init: Callable[[Batch], TrainState], batch: Batch, abstract: TrainState
) -> TrainState:
  """Makes the state that `abstract_state` described, each leaf where it lies.

  It runs once, so a CPU compiles it without optimising: 7 s instead of 35 for
  a codec of 70 random leaves.
  """
  platform = abstract.step.sharding.mesh.devices.flat[0].platform
  create = jax.jit(
    lambda batch: nn.unbox(init(batch)),
    out_shardings=shardings(abstract),
    compiler_options=_UNOPTIMISED if platform == 'cpu' else None,
  )
  return create(batch)


def shardings(abstract: Any) -> Any:
  """Reads the shardings off a described state."""
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def flatten(tree: PyTree) -> dict[str, Any]:
  """Names every leaf by its path: `'params/lm/decoder/kernel'`."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


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
  given = flatten({'params': params, 'collections': collections or {}})
  ours = {'params': state.params, 'collections': state.collections}
  wanted = flatten(ours)
  compared = set(given)
  if collections is not None:
    compared |= {name for name in wanted if name.split('/')[1] not in fresh}
  for name in sorted(compared):
    theirs, needed = (
      tuple(np.shape(leaves[name])) if name in leaves else 'nothing'
      for leaves in (given, wanted)
    )
    if theirs != needed:
      raise UsageError(
        f'the weights to start from have {theirs} at {name}, this config '
        f'needs {needed}: use the config of those weights'
      )
  for name in given:
    leaf, value = wanted[name], np.asarray(given[name], wanted[name].dtype)
    wanted[name] = jax.device_put(value, leaf.sharding)
  placed = jax.tree.unflatten(jax.tree.structure(ours), wanted.values())
  averaged = jax.tree.map(jnp.copy, placed['params'])
  return state.replace(**placed, ema_params=state.ema_params and averaged)
