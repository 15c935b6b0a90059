"""Held-out metrics: batches -> means over their examples."""

import math
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import Task
from musiclm_jax.training.state import TrainState


def make_evaluator(
  task: Task,
  batches: Callable[[], Iterable[Mapping[str, np.ndarray]]],
  mesh: Mesh,
) -> Callable[[TrainState], dict[str, float]]:
  """Makes the function that averages held-out metrics over examples."""

  @jax.jit
  def one(params: PyTree, collections: PyTree, batch: PyTree) -> PyTree:
    metrics = task.evaluate(params, collections, batch)
    return {k: jnp.mean(v.astype(jnp.float32)) for k, v in metrics.items()}

  def evaluate(state: TrainState) -> dict[str, float]:
    rows = [
      jax.device_get(
        one(
          state.inference_params,
          state.collections,
          sharding.put_batch(batch, mesh),
        )
      )
      for batch in batches()
    ]
    names = rows[0] if rows else ()
    return {
      f'eval_{name}': math.fsum(float(row[name]) for row in rows) / len(rows)
      for name in names
    }

  return evaluate
