"""An upper bound of the speed: work of a step over what chips can do."""

import dataclasses

import jax
import numpy as np

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.rehearsal.program import Program, with_changes
from musiclm_jax.stages import batch_shapes
from musiclm_jax.training.hardware import Chip
from musiclm_jax.training.model_flops import model_flops, program_flops
from musiclm_jax.training.placement import held


@dataclasses.dataclass(frozen=True)
class Bound:
  """The three times of a step, in seconds, and what they allow.

  Attributes:
    max_mfu: Model FLOPs over what the chips do in the longest of the three.
    bound_by: Which one that is: `compute`, `hbm` or `ici`.
    t_compute: Products of the program, recomputation included.
    t_hbm: Bytes between chip and memory.
    t_ici: Bytes on the interconnect.
  """

  max_mfu: float
  bound_by: str
  t_compute: float
  t_hbm: float
  t_ici: float


def bound(
  *,
  model_flops: float,
  chips: int,
  peak: float,
  t_compute: float,
  t_hbm: float,
  t_ici: float,
) -> Bound:
  """Computes `max_mfu`; no time can be hidden behind the longest."""
  times = {'compute': t_compute, 'hbm': t_hbm, 'ici': t_ici}
  name = max(times, key=times.__getitem__)
  mfu = model_flops / (peak * chips * times[name])
  return Bound(mfu, name, t_compute, t_hbm, t_ici)


@dataclasses.dataclass(frozen=True)
class Work:
  """What a step has to do, of the whole batch or of one chip.

  Attributes:
    model_flops: Needed by the whole batch.
    program_flops: Computed for the whole batch, in passes of a bfloat16 unit.
    hbm_bytes: Between one chip and its memory.
  """

  model_flops: float
  program_flops: float
  hbm_bytes: float

  def times(self, chip: Chip, chips: int) -> dict[str, float]:
    """`t_compute` and `t_hbm` in seconds; products are cut evenly."""
    return {
      't_compute': self.program_flops / (chip.peak * chips),
      't_hbm': self.hbm_bytes / chip.hbm_bandwidth,
    }


def work(program: Program) -> Work:
  """Counts the work of a training step.

  Between a chip and its memory pass at least: its share of the state, read
  and written; the parameters as they are used, read forward and backward, and
  as many gradients, written and read; what the forward pass keeps for the
  backward pass, written and read; the batch. What XLA writes beside, because
  it does not fit on the chip, is left out: this is a lower bound.
  """
  state, batch = program.state, program.batch
  chips = program.mesh.size
  used = _parameter_bytes(program)
  kept = _kept_bytes(program) / chips
  own = [held(part)[1] for part in (state, batch)]
  traffic = 2 * own[0] + 4 * used + 2 * kept + own[1]
  return Work(
    model_flops(program.task, state.params, state.collections, batch),
    program_flops(program.step, state, batch),
    traffic,
  )


def _parameter_bytes(program: Program) -> float:
  """Bytes of the parameters in the type and parts in which they are used."""
  tensor = program.mesh.shape['tensor']
  half = 'bfloat16' in str(program.config.get('model', {}))
  count = sum(leaf.size for leaf in jax.tree.leaves(program.state.params))
  return count * (2 if half else 4) / tensor


def _kept_bytes(program: Program) -> int:
  """Bytes that all forward passes keep for the backward passes.

  The parameters among them do not grow with the batch: a batch of twice the
  size tells.
  """
  size = program.config['data']['batch_size']
  twice = with_changes(program.config, {'data.batch_size': 2 * size})
  once, both = (
    _residual_bytes(program, batch_shapes(config))
    for config in (program.config, twice)
  )
  return both - once


def _residual_bytes(program: Program, batch: PyTree) -> int:
  """Bytes of what all players' losses keep, parameters included."""
  params, collections = program.state.params, program.state.collections
  key = jax.eval_shape(lambda: jax.random.key(0))
  step = jax.ShapeDtypeStruct((), np.int32)
  total = 0
  for player, loss in program.task.losses().items():

    def keep(own, params, *rest, player=player, loss=loss):
      def of_own(own):
        return loss({**params, player: own}, *rest)[0]

      return jax.vjp(of_own, own)[1]

    if jax.tree.leaves(params[player]):
      kept = jax.eval_shape(
        keep, params[player], dict(params), collections, batch, key, step
      )
      total += sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)
      )
  return total
