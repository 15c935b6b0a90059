"""How fast a training is, against the clock and against what its chips can do.

Wall time is spent on `compile`, `restore`, `save`, `evaluate` and `data`
(waiting for a batch while no step runs); goodput is what is left of it.

step 120/2000  loss 3.1416  eval_nll 3.2000  5.20 steps/s  42,600 tokens/s
MFU 51.3 %  ETA 6:01  goodput 93 %

Peaks of chips are of dense bfloat16 products, in FLOP/s a chip; bandwidths in
bytes/s. A link's figure is one way. Sources: for TPUs the key specifications
of cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} (bidirectional interchip
bandwidth a chip / links / 2), for GPUs NVIDIA's data sheets without sparsity.
"""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import BatchInfo, HasBatchInfo, Task
from musiclm_jax.training.flops import model_flops
from musiclm_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip, which is one device of jax.

  Attributes:
    name: As people say it.
    peak: FLOP/s of bfloat16 products.
    hbm_bytes: Memory that a program can use; what libtpu says of TPUs.
    hbm_bandwidth: Between memory and chip.
    link_bandwidth: Of one interconnect link, one way; 0.0 where unknown.
    torus_axes: Of the interconnect, two links each.
  """

  name: str
  peak: float
  hbm_bytes: float
  hbm_bandwidth: float
  link_bandwidth: float = 0.0
  torus_axes: int = 0


GiB = 2**30
# jax's device_kind -> chip.
CHIPS = {
  # 275 TFLOPS, 32 GiB at 1200 GB/s, 2400 Gbps one way over 6 links.
  'TPU v4': Chip('v4', 275e12, 30.75 * GiB, 1200e9, 50e9, 3),
  # 197 TFLOPS, 16 GiB at 819 GB/s, 1600 Gbps one way over 4 links.
  'TPU v5 lite': Chip('v5e', 197e12, 15.75 * GiB, 819e9, 50e9, 2),
  # 459 TFLOPS, 95 GB at 2765 GB/s, 1200 GB/s both ways over 6 links.
  'TPU v5': Chip('v5p', 459e12, 95.74 * GiB, 2765e9, 100e9, 3),
  # 918 TFLOPS, 32 GiB at 1638 GB/s, 800 GB/s both ways over 4 links.
  'TPU v6 lite': Chip('v6e', 918e12, 31.25 * GiB, 1638e9, 100e9, 2),
  'NVIDIA H100 80GB HBM3': Chip('H100', 989.4e12, 80e9, 3352e9),
  'NVIDIA H200': Chip('H200', 989.4e12, 141e9, 4800e9),
  'NVIDIA A100-SXM4-40GB': Chip('A100', 312e12, 40e9, 1555e9),
  'NVIDIA A100-SXM4-80GB': Chip('A100', 312e12, 80e9, 2039e9),
}


def chip_of(device: Any) -> Chip | None:
  """Finds the chip of a jax device; None where its peak is not known."""
  return CHIPS.get(device.device_kind)


class Clock:
  """Counts seconds; starts when it is made."""

  def __init__(self, now: Callable[[], float] = time.monotonic):
    """Begins to count. `now` returns the seconds since some moment."""
    self._now = now
    self._start = now()
    self._lost: dict[str, float] = collections.defaultdict(float)
    self._first: tuple[int, float] | None = None
    self._lap: tuple[int, float, dict[str, float]] | None = None
    self._step_seconds = 0.0

  @property
  def elapsed(self) -> float:
    """Seconds since the start."""
    return self._now() - self._start

  @property
  def lost(self) -> dict[str, float]:
    """Seconds that were no steps, by what they went into."""
    return dict(self._lost)

  @contextlib.contextmanager
  def spending(self, what: str) -> Iterator[None]:
    """Books the time of a block, of which no step is part."""
    begun = self._now()
    try:
      yield
    finally:
      self._lost[what] += self._now() - begun

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Books a wait for data, less what a step takes that runs meanwhile."""
    begun = self._now()
    try:
      yield
    finally:
      waited = self._now() - begun - self._step_seconds
      self._lost['data'] += max(0.0, waited)

  @contextlib.contextmanager
  def timing_step(self) -> Iterator[None]:
    """Takes the time of a block that waits for the one step that runs."""
    begun = self._now()
    yield
    self._step_seconds = self._now() - begun

  def begin(self, step: int) -> None:
    """Starts to count steps after `step`, the first, which compiled."""
    self._first = step, self._now()
    self._lap = step, self._now(), self.lost

  def figures(self, step: int, total: int) -> dict[str, float]:
    """Tells how the run stands after `step` of `total`; ends a lap.

    Returns:
      `goodput`, the share of the wall time that went into steps;
      `steps_per_second` since the last look, without compiling, saving and
      evaluating, where there was a step to time; `data_share`, how much of the
      time of these went into waiting; `seconds_left` to the last step, with all
      that goes with it, where that can be told; and what the seconds since the
      start went into, as `seconds_save` and so on.
    """
    now = self._now()
    first, first_at = self._first
    lap, lap_at, lost_before = self._lap
    self._lap = step, now, self.lost
    lost = {k: v - lost_before.get(k, 0.0) for k, v in self._lost.items()}
    data = lost.pop('data', 0.0)
    stepping = max(now - lap_at - sum(lost.values()), 1e-9)
    found = {
      'goodput': 1.0 - sum(self._lost.values()) / max(self.elapsed, 1e-9),
      'data_share': data / stepping,
    }
    if step > lap:
      found['steps_per_second'] = (step - lap) / stepping
    if step > first:
      mean = (now - first_at) / (step - first)
      found['seconds_left'] = mean * (total - step)
    return found | {f'seconds_{k}': v for k, v in sorted(self._lost.items())}


def duration(seconds: float) -> str:
  """Seconds as m:ss or h:mm:ss."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes}:{seconds:02d}'


@dataclasses.dataclass(frozen=True)
class Scale:
  """What one step is worth.

  Attributes:
    amount: What a global batch holds, in `unit`.
    unit: Plural.
    peak_share: Model FLOPs of a step over what all chips do in a second; None
      where the peak of the chip is not known.
  """

  amount: float
  unit: str
  peak_share: float | None = None

  def speed(self, figures: Mapping[str, float]) -> dict[str, float]:
    """Adds what a task is worth to `Clock.figures`, as far as it is known."""
    found = dict(figures)
    if rate := figures.get('steps_per_second'):
      found[f'{self.unit.replace(" ", "_")}_per_second'] = self.amount * rate
      if self.peak_share is not None:
        found['mfu'] = self.peak_share * rate
    return found

  def line(
    self,
    step: int,
    total_steps: int,
    metrics: Mapping[str, float],
    speed: Mapping[str, float],
  ) -> str:
    """Returns the progress line.

    Args:
      step: That was logged, of `total_steps`.
      total_steps: Of the training.
      metrics: Of the step.
      speed: Of `speed`.
    """
    parts = [f'step {step}/{total_steps}', f'loss {metrics["loss"]:.4f}']
    parts += [
      f'{k} {v:.4f}' for k, v in metrics.items() if k.startswith('eval_')
    ]
    if rate := speed.get('steps_per_second'):
      parts.append(f'{rate:.2f} steps/s')
      parts.append(f'{_rounded(self.amount * rate)} {self.unit}/s')
    if 'mfu' in speed:
      parts.append(f'MFU {100 * speed["mfu"]:.1f} %')
    if 'seconds_left' in speed:
      parts.append(f'ETA {duration(speed["seconds_left"])}')
    return '  '.join([*parts, f'goodput {100 * speed["goodput"]:.0f} %'])


def batch_info_of(task: Task, batch: PyTree) -> BatchInfo:
  """What a task says of itself; examples and no checks where it does not."""
  if isinstance(task, HasBatchInfo):
    return task.batch_info(batch)
  return BatchInfo(len(next(iter(batch.values()))), 'examples')


def scale_of(task: Task, state: TrainState, batch: PyTree) -> Scale:
  """Counts what a step of a task is worth on the chips its state lies on.

  Args:
    task: What is trained.
    state: Described, with shardings.
    batch: A global batch, or its shapes.
  """
  info, mesh = batch_info_of(task, batch), state.step.sharding.mesh
  chip, share = chip_of(mesh.devices.flat[0]), None
  if chip is not None:
    flops = model_flops(task, state.params, state.collections, batch)
    share = flops / (chip.peak * mesh.size)
  return Scale(info.amount, info.unit, share)


def _rounded(value: float) -> str:
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
