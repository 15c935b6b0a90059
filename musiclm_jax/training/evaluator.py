"""Held-out batches -> means of metrics over their examples, and samples."""

import math
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import HasAudioSamples
from musiclm_jax.training.assembly import Training
from musiclm_jax.training.state import TrainState

Means, Samples = dict[str, float], dict[str, np.ndarray]


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
