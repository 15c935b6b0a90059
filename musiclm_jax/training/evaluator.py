"""Held-out batches -> means of metrics over their examples, and samples."""

import math
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import HasAudioSamples, Task
from musiclm_jax.training.state import TrainState

Evaluator = Callable[
  [TrainState], tuple[dict[str, float], dict[str, np.ndarray]]
]


def make_evaluator(
  task: Task,
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
  mesh: Mesh,
) -> Evaluator:
  """Makes the function that a training is examined with.

  Args:
    task: What is trained.
    batches: The held-out batches, the same at every call.
    mesh: Where they are placed.

  Returns:
    From a state to `eval_<metric>` means over all batches, and to what an
    `HasAudioSamples` task lets hear of the first batch, [N, S] by name.
  """

  def one(
    params: PyTree, collections: PyTree, batch: PyTree
  ) -> tuple[PyTree, PyTree]:
    with sharding.layout(mesh):
      metrics = task.evaluate(params, collections, batch)
      means = {k: jnp.mean(v.astype(jnp.float32)) for k, v in metrics.items()}
      if not isinstance(task, HasAudioSamples):
        return means, {}
      return means, dict(task.audio_samples(params, collections, batch))

  compiled = jax.jit(one, out_shardings=sharding.replicated(mesh))

  def evaluate(
    state: TrainState,
  ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    rows, samples = [], {}
    for batch in batches():
      row, sounds = compiled(
        state.inference_params,
        state.collections,
        sharding.put_batch(batch, mesh),
      )
      samples = samples or jax.device_get(sounds)
      rows.append(jax.device_get(row))
    names = rows[0] if rows else ()
    means = {
      f'eval_{name}': math.fsum(float(row[name]) for row in rows) / len(rows)
      for name in names
    }
    return means, samples

  return evaluate


def evaluation_names(
  task: Task,
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
  state: TrainState,
) -> list[str]:
  """Names what an evaluator yields, without evaluating.

  Args:
    task: What is trained.
    batches: Held-out ones, perhaps none.
    state: May be abstract.
  """
  batch = next(iter(batches()), None)
  if batch is None:
    return []
  metrics = jax.eval_shape(
    task.evaluate, state.inference_params, state.collections, batch
  )
  return [f'eval_{name}' for name in metrics]
