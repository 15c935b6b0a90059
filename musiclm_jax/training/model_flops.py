"""Counts the arithmetic of a step from its jaxpr: task and shapes -> FLOPs.

Only matrix products and convolutions count, 2 FLOPs a multiplication and
addition, padding and the zeros of strides left out. XLA's own analysis counts
the body of a scan once; here it counts as often as it runs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import Batch, Task
from musiclm_jax.training.flops_ledger import Ledger


def model_flops(
  task: Task, params: PyTree, collections: PyTree, batch: Batch
) -> float:
  """Counts what one training step needs, however it is computed.

  A product of the forward pass counts once, whichever players' losses share
  it, and once more for each operand that a player's gradient passes through:
  3 x forward where both depend on parameters, as in a language model. A
  discriminator's first layer needs no gradient of its input, and a codec's
  loss no gradient of the discriminators' kernels. Causal attention counts its
  legal pairs; what is recomputed counts nothing. Of the branches that compute
  anything the cheapest counts: the others are for the first steps.

  Args:
    task: What is trained.
    params: Player -> parameters; shapes will do.
    collections: Player -> collections; shapes will do.
    batch: A global batch; shapes will do.

  Returns:
    FLOPs of one step of the whole batch.
  """
  ledger = Ledger(useful=True)
  key = jax.eval_shape(lambda: jax.random.key(0))
  step = jax.ShapeDtypeStruct((), jnp.int32)
  for player, loss in task.losses().items():

    def of_own(own, params, *rest, player=player, loss=loss):
      return loss({**params, player: own}, *rest)[0]

    shared = dict(params), collections, dict(batch), key, step
    own_names = _names(params[player], f'params/{player}')
    names = own_names + [
      name
      for index, tree in enumerate(shared)
      for name in _names(tree, 'params' if index == 0 else str(index))
    ]
    active = [True] * len(own_names) + [False] * (len(names) - len(own_names))
    ledger.count(of_own, (params[player], *shared), names, active)
  return ledger.total


def program_flops(function: Callable, *arguments: PyTree) -> float:
  """Counts what a function computes, recomputation and masked pairs included.

  A product of float32 at precision HIGHEST counts six times, at HIGH three
  times: so often does a bfloat16 unit run.

  Args:
    function: Such as a training step.
    *arguments: Its arguments; shapes will do.
  """
  ledger = Ledger(useful=False)
  names = _names(arguments, '')
  ledger.count(function, arguments, names, [False] * len(names))
  return ledger.total


def _names(tree: PyTree, prefix: str) -> list[str]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [
    f'{prefix}/{jax.tree_util.keystr(path, simple=True, separator="/")}'
    for path, _ in leaves
  ]
