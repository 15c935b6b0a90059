"""Some training steps, timed on the devices that are here."""

import dataclasses
import statistics
import time
from typing import Any

import jax
import numpy as np

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.rehearsal.program import Config, plan
from musiclm_jax.rehearsal.rehearsal import described
from musiclm_jax.training.assembly import Training
from musiclm_jax.training.speed import scale_of
from musiclm_jax.training.state import TrainState

_STEPS = 5


def measure(config: Config, steps: int = _STEPS) -> dict[str, Any]:
  """Trains a few steps on drawn values on all devices and times them.

  Args:
    config: Resolved, as a nested dict.
    steps: Timed, after one that compiles.

  Returns:
    `step_seconds` (the median), `rate` in `unit` a second, `mfu` (None where
    the peak of the chip is not known), `peak_hbm_bytes` where the device
    says, and what it is about.

  Raises:
    UsageError: If mesh or batch do not divide.
  """
  devices = jax.devices()
  planned = plan(config, devices)
  scale = scale_of(planned.task, planned.state, planned.batch)
  step = planned.step(planned.task)
  state, batch = begin(planned)
  seconds = []
  for _ in range(1 + steps):
    start = time.perf_counter()
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    seconds.append(time.perf_counter() - start)
  median = statistics.median(seconds[1:])
  share = scale.peak_share
  memory = devices[0].memory_stats() or {}
  return {
    'step_seconds': median,
    'rate': scale.amount / median,
    'unit': scale.unit,
    'mfu': None if share is None else share / median,
    'peak_hbm_bytes': memory.get('peak_bytes_in_use'),
    **described(config, planned, f'{len(devices)} x {devices[0].device_kind}'),
    'compile_seconds': round(seconds[0] - median, 1),
  }


def begin(planned: Training) -> tuple[TrainState, PyTree]:
  """Makes the first state of a plan, and a batch of drawn values for it.

  Of quiet noise, and codes of 0; each row a group of its own.
  """
  rng = np.random.default_rng(0)

  def draw(name: str, leaf: Any) -> np.ndarray:
    if name == 'group':
      return np.arange(leaf.shape[0], dtype=leaf.dtype)
    if np.issubdtype(leaf.dtype, np.floating):
      return 0.1 * rng.standard_normal(leaf.shape, leaf.dtype)
    return np.zeros(leaf.shape, leaf.dtype)

  drawn = {name: draw(name, leaf) for name, leaf in planned.batch.items()}
  batch = sharding.put_batch(drawn, planned.mesh)
  return dataclasses.replace(planned, batch=batch).create_state(), batch
