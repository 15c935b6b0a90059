"""How fast a training is, in the units of its task, and the line that says so.

step 120/2000  loss 3.1416  eval_nll 3.2000  5.20 steps/s  42,600 tokens/s
MFU 51.3 %  ETA 6:01  goodput 93 %
"""

import dataclasses
from collections.abc import Mapping

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import BatchInfo, HasBatchInfo, Task
from musiclm_jax.training.clock import Pace, duration
from musiclm_jax.training.hardware import chip_of
from musiclm_jax.training.model_flops import model_flops
from musiclm_jax.training.state import TrainState


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

  def speed(self, pace: Pace) -> dict[str, float]:
    """Puts a pace into figures by name, those that are known."""
    found = {'goodput': pace.goodput, 'data_share': pace.data_share}
    if rate := pace.steps_per_second:
      found['steps_per_second'] = rate
      found[f'{self.unit.replace(" ", "_")}_per_second'] = self.amount * rate
      if self.peak_share is not None:
        found['mfu'] = self.peak_share * rate
    if pace.seconds_left is not None:
      found['seconds_left'] = pace.seconds_left
    return found | {f'seconds_{k}': v for k, v in sorted(pace.lost.items())}

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


def scale_of(
  task: Task, batch_info: BatchInfo, state: TrainState, batch: PyTree
) -> Scale:
  """Counts what a step of a task is worth on the chips its state lies on.

  Args:
    task: What is trained.
    batch_info: Of it.
    state: Described, with shardings.
    batch: A global batch, or its shapes.
  """
  mesh = state.step.sharding.mesh
  chip, share = chip_of(mesh.devices.flat[0]), None
  if chip is not None:
    flops = model_flops(task, state.params, state.collections, batch)
    share = flops / (chip.peak * mesh.size)
  return Scale(batch_info.amount, batch_info.unit, share)


def _rounded(value: float) -> str:
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'
