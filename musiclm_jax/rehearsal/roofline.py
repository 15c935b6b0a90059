"""An upper bound of the speed: work of a step over what chips can do."""

import dataclasses

import jax
import numpy as np

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.rehearsal.program import Config, with_changes
from musiclm_jax.stages import batch_shapes
from musiclm_jax.training.assembly import Training
from musiclm_jax.training.flops import model_flops, program_flops
from musiclm_jax.training.sharding_report import held
from musiclm_jax.training.speed import Chip


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


def work(config: Config, training: Training) -> Work:
  """Counts the work of a training step.

  Between a chip and its memory pass at least: its share of the state, read
  and written; the parameters as they are used, read forward and backward, and
  as many gradients, written and read; what the forward pass keeps for the
  backward pass, written and read; the batch. What XLA writes beside, because
  it does not fit on the chip, is left out: this is a lower bound.
  """
  state, batch, mesh = training.state, training.batch, training.mesh
  # Parameters in the type and parts in which they are used.
  width = 2 if 'bfloat16' in str(config.get('model', {})) else 4
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  used = count * width / mesh.shape['tensor']
  # What is kept includes parameters, which do not grow with the batch: a batch
  # of twice the size tells how much is not theirs.
  twice = {'data.batch_size': 2 * config['data']['batch_size']}
  once, both = (
    _residual_bytes(training, batch_shapes(each))
    for each in (config, with_changes(config, twice))
  )
  kept = (both - once) / mesh.size
  traffic = 2 * held(state)[1] + 4 * used + 2 * kept + held(batch)[1]
  return Work(
    model_flops(training.task, state.params, state.collections, batch),
    program_flops(training.step(training.task), state, batch),
    traffic,
  )


def _residual_bytes(training: Training, batch: PyTree) -> int:
  """Bytes of what all players' losses keep, parameters included."""
  params, collections = training.state.params, training.state.collections
  key = jax.eval_shape(lambda: jax.random.key(0))
  step = jax.ShapeDtypeStruct((), np.int32)
  total = 0
  for player, loss in training.task.losses().items():

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
