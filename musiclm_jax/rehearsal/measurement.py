"""The same question where the devices are: some steps, timed."""

import statistics
import time
from typing import Any

import jax
import numpy as np

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.rehearsal.program import Config, plan
from musiclm_jax.rehearsal.rehearsal import described
from musiclm_jax.training import state as states
from musiclm_jax.training.speed import batch_info_of, scale_of

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
  batch = sharding.put_batch(draw(planned.batch), planned.mesh)
  scale = scale_of(
    planned.task, batch_info_of(planned.task, batch), planned.state, batch
  )
  state = states.create_state(
    planned.task,
    planned.optimizers,
    batch,
    planned.mesh,
    seed=config['seed'],
    with_ema=config['training']['ema_decay'] > 0,
  )
  seconds = []
  for _ in range(1 + steps):
    start = time.perf_counter()
    state, metrics = planned.step(state, batch)
    jax.block_until_ready((state, metrics))
    seconds.append(time.perf_counter() - start)
  step = statistics.median(seconds[1:])
  share = scale.peak_share
  memory = devices[0].memory_stats() or {}
  return {
    'step_seconds': step,
    'rate': scale.amount / step,
    'unit': scale.unit,
    'mfu': None if share is None else share / step,
    'peak_hbm_bytes': memory.get('peak_bytes_in_use'),
    **described(planned, f'{len(devices)} x {devices[0].device_kind}'),
    'compile_seconds': round(seconds[0] - step, 1),
  }


def draw(shapes: PyTree) -> dict[str, np.ndarray]:
  """Quiet noise, and codes of 0; each row a group of its own."""
  rng = np.random.default_rng(0)

  def one(name: str, leaf: Any) -> np.ndarray:
    if name == 'group':
      return np.arange(leaf.shape[0], dtype=leaf.dtype)
    if np.issubdtype(leaf.dtype, np.floating):
      return 0.1 * rng.standard_normal(leaf.shape, leaf.dtype)
    return np.zeros(leaf.shape, leaf.dtype)

  return {name: one(name, leaf) for name, leaf in shapes.items()}
