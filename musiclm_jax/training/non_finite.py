"""Guards against non-finite steps: they are skipped, rolled back, then stopped.

A step with a loss or gradient that is not finite changes no parameter (see
`training.step`), so one bad batch costs one batch. When `MAX_IN_A_ROW` steps
were refused one after another the batches are not to blame: the run takes the
state of the newest checkpoint before them and goes on with the *next* batch,
since the same batches from the same state would end the same way. It does so
once, which the state remembers, and stops the second time.

What happens is a function of the state, of the steps that save and of
metrics that are equal on all processes: a run that is killed meanwhile and
started again refuses, goes back and stops at the same steps.
"""

from collections.abc import Callable

import jax
import numpy as np

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few
from musiclm_jax.training.checkpoint import Checkpoints
from musiclm_jax.training.schedule import Schedule
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.step import FINITE, suspects

MAX_IN_A_ROW = 10
_NAMED = 3  # tensors in one line


class NonFiniteGuard:
  """Checks each step while the next one runs, so that nothing waits."""

  def __init__(
    self,
    state: TrainState,
    abstract: TrainState,
    checkpoints: Checkpoints,
    plan: Schedule,
    warn: Callable[[str, str], None],
  ):
    """Begins at a state.

    Args:
      state: Where the run begins or goes on.
      abstract: Shapes, dtypes and shardings of it.
      checkpoints: Of the run.
      plan: Says which checkpoints an undisturbed run has.
      warn: Told a cause and a line.
    """
    self._abstract = abstract
    self._checkpoints, self._plan, self._warn = checkpoints, plan, warn
    self._last = int(state.step), {}, {}
    self._in_a_row = int(state.refused_in_a_row)

  def check(
    self, state: TrainState, number: int, batch: PyTree, metrics: PyTree
  ) -> TrainState:
    """Looks at the step before `number`; returns the state to go on with.

    Args:
      state: After step `number`.
      number: Of the newest step, which may still be running.
      batch: Of that step.
      metrics: Of that step, as the step function returns them.

    Raises:
      UsageError: If there is no way back, or not another one.
    """
    before, batch_before, metrics_before = self._last
    self._last = number, batch, metrics
    if metrics_before:
      self._in_a_row = int(metrics_before['refused_in_a_row'])
    if self._in_a_row and metrics_before:
      bad = unfinite(batch_before, metrics_before, state.params)
      self._warn(
        f'not finite: {bad[0]}',
        f'step {before} was refused, its batch is left out: '
        f'{first_few(bad, _NAMED)} {"is" if len(bad) == 1 else "are"} not '
        'finite',
      )
    if self._in_a_row < MAX_IN_A_ROW:
      return state
    state = self._go_back(state, before)
    self._last = number, {}, {}
    self._in_a_row = 0
    return state

  def _go_back(self, state: TrainState, before: int) -> TrainState:
    first = before - self._in_a_row + 1
    trouble = (
      f'at step {before} the loss or a gradient was not finite for '
      f'{self._in_a_row} steps in a row'
    )
    advice = (
      'lower a learning_rate or clip_norm in config.optimizer, or look at the '
      'data'
    )
    if rolled_back := int(state.rolled_back):
      raise UsageError(
        f'{trouble}, again after going back once at step {rolled_back}; the '
        f'parameters are those of before: {advice}'
      )
    self._checkpoints.wait()
    step, refused = state.step + 0, state.refused + 0
    jax.tree.map(lambda leaf: leaf.delete(), state)  # makes room
    older = self._checkpoints.restore(
      self._abstract, among=lambda s: s < first and self._plan.saves(s)
    )
    if older is None:
      raise UsageError(
        f'{trouble}, and there is no checkpoint from before step {first} to '
        f'go back to: {advice}'
      )
    self._warn(
      'rolled back',
      f'{trouble}: going on from the parameters of step {int(older.step)} with '
      'the batches that follow; the next time the run stops',
    )
    return older.replace(
      step=step,
      refused=refused,
      refused_in_a_row=step * 0,
      rolled_back=step + 0,
    )


def unfinite(batch: PyTree, metrics: PyTree, params: PyTree) -> list[str]:
  """Names what a step found not finite: tensors of its batch, metrics.

  Where no metric of a loss is to blame, the gradients follow, as
  'gradient/<player>/<parameter>'.

  Args:
    batch: Of the step.
    metrics: As the step function returns them.
    params: Whose gradients were taken; their values do not matter.
  """
  verdicts = np.asarray(jax.device_get(metrics[FINITE]))
  names = list(suspects(batch, metrics, params))
  return [
    name for name, finite in zip(names, verdicts, strict=True) if not finite
  ]
