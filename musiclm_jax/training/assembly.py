"""A training, assembled in one place for the loop and the rehearsal.

task, batch, mesh, numbers of a config -> described state, one step a phase;
held-out batches -> means of metrics over their examples, and samples.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.horizon import Earlier
from musiclm_jax.contracts.task import HasAudioSamples, Task
from musiclm_jax.training import state as states
from musiclm_jax.training.optimizer import make_optimizers
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.step import compile_step

Means, Samples = dict[str, float], dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Training:
  """A task on a mesh, ready to be trained; holds no values.

  Attributes:
    task: What is trained.
    mesh: Where it lies.
    batch: A global one; only shapes matter.
    state: Described, with shardings.
    init: From a batch to the first state, boxed.
    step: The task in a phase -> its jitted `StepFn`, compiled once a phase.
  """

  task: Task
  mesh: Mesh
  batch: PyTree
  state: TrainState
  init: Callable[[PyTree], TrainState]
  step: Callable[[Task], Callable]

  def create_state(self) -> TrainState:
    """Makes the first state, each leaf born where its sharding says."""
    return states.create_state(self.init, self.batch, self.state)


def assemble(
  task: Task,
  batch: PyTree,
  mesh: Mesh,
  *,
  optimizers: Mapping[str, Mapping[str, Any]],
  total_steps: int,
  earlier: Earlier = (),
  seed: int = 0,
  accumulation: int = 1,
  ema_decay: float = 0.0,
  first_step: int = 0,
) -> Training:
  """Puts a training together; computes nothing, so any mesh will do.

  Args:
    task: What is trained.
    batch: A global one, or its shapes.
    mesh: Of devices, which may be absent ones.
    optimizers: Player -> keyword arguments of `make_optimizer`.
    total_steps: Of the training.
    earlier: What it was before; see `Horizon`.
    seed: Of initial values and training noise.
    accumulation: Microbatches a step.
    ema_decay: Of averaged parameters; 0.0 is off.
    first_step: Where learning rates warm up; see `learning_rate_schedule`.

  Raises:
    UsageError: If the batch cannot be cut into its microbatches.
  """
  players = make_optimizers(
    optimizers,
    players=task.losses(),
    total_steps=total_steps,
    earlier=earlier,
    first_step=first_step,
  )
  init = functools.partial(
    states.init_state, task, players, seed=seed, with_ema=ema_decay > 0
  )
  state = states.abstract_state(init, batch, mesh)
  _check_microbatches(batch, accumulation, state)
  step = functools.partial(
    compile_step,
    optimizers=players,
    abstract=state,
    accumulation=accumulation,
    ema_decay=ema_decay,
  )
  return Training(task, mesh, batch, state, init, functools.cache(step))


def _check_microbatches(
  batch: PyTree, accumulation: int, abstract: TrainState
) -> None:
  """Checks that a step can cut its batch into microbatches over its devices.

  Raises:
    UsageError: If the batch does not divide, or nothing has gradients.
  """
  if accumulation > 1 and not jax.tree.leaves(abstract.params):
    # Only gradients accumulate; codebooks would see the last microbatch alone.
    raise UsageError(
      f'got accumulation={accumulation} for a fit, which has no gradients to '
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


class Evaluator:
  """Measures a training on held-out batches."""

  def __init__(
    self,
    training: Training,
    batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
  ):
    """Compiles nothing yet.

    Args:
      training: That is evaluated.
      batches: The held-out batches, perhaps none, the same at every call.
    """
    self._training, self._batches = training, batches
    everywhere = sharding.replicated(training.mesh)
    self._one = jax.jit(self._evaluate, out_shardings=everywhere)

  def names(self) -> list[str]:
    """Names what it yields, without evaluating."""
    state = self._training.state
    batch = next(iter(self._batches()), None)
    if batch is None:
      return []
    evaluate = self._training.task.evaluate
    metrics = jax.eval_shape(
      evaluate, state.inference_params, state.collections, batch
    )
    return [f'eval_{name}' for name in metrics]

  def __call__(self, state: TrainState) -> tuple[Means, Samples]:
    """Evaluates a state.

    Returns:
      `eval_<metric>` means over all batches, and the audio samples of the
      first batch, [N, S] by name, where the task has some.
    """
    rows, samples = [], {}
    for batch in self._batches():
      placed = sharding.put_batch(batch, self._training.mesh)
      row, sounds = self._one(state.inference_params, state.collections, placed)
      samples = samples or jax.device_get(sounds)
      rows.append(jax.device_get(row))
    means = {
      f'eval_{name}': math.fsum(float(row[name]) for row in rows) / len(rows)
      for name in (rows[0] if rows else ())
    }
    return means, samples

  def _evaluate(
    self, params: PyTree, collections: PyTree, batch: PyTree
  ) -> tuple[PyTree, PyTree]:
    task = self._training.task
    with sharding.layout(self._training.mesh):
      metrics = task.evaluate(params, collections, batch)
      means = {k: jnp.mean(v.astype(jnp.float32)) for k, v in metrics.items()}
      if not isinstance(task, HasAudioSamples):
        return means, {}
      return means, dict(task.audio_samples(params, collections, batch))
