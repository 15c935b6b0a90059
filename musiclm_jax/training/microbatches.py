"""Microbatches: whether a batch can be cut into them."""

import jax

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training.state import TrainState


def check(batch: PyTree, accumulation: int, abstract: TrainState) -> None:
  """Checks that a step can cut its batch into microbatches over its devices.

  Args:
    batch: A global one; only shapes matter.
    accumulation: Microbatches.
    abstract: Of `state.abstract_state`.

  Raises:
    UsageError: If the batch does not divide, or nothing has gradients.
  """
  if accumulation > 1 and not jax.tree.leaves(abstract.params):
    # Only gradients accumulate; codebooks would see the last microbatch alone.
    raise UsageError(
      f'accumulation={accumulation} came to a fit, which has no gradients to '
      'accumulate and would forget all microbatches but the last: set '
      '--config.training.accumulation=1'
    )
  shards = sharding.batch_shards(abstract.step.sharding.mesh)
  size = jax.tree.leaves(batch)[0].shape[0]
  if accumulation < 1 or size % (accumulation * shards):
    raise UsageError(
      f'a batch of {size} cannot be cut into accumulation={accumulation} '
      f'microbatches on {shards} devices: set --config.data.batch_size to a '
      f'multiple of {max(accumulation, 1) * shards}'
    )
