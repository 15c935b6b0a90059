"""When a training logs, evaluates and saves, and which checkpoint is best."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.horizon import Earlier, Horizon

_WAYS = ('lowest', 'highest')


@dataclasses.dataclass(frozen=True)
class Best:
  """A held-out metric and which way is better.

  Attributes:
    metric: As the record names it, such as `'eval_nll'`.
    way: `'lowest'` or `'highest'`.
  """

  metric: str
  way: str

  @classmethod
  def parse(cls, text: str) -> 'Best | None':
    """Reads `'lowest eval_nll'`; the empty text is none.

    Raises:
      UsageError: If it is something else.
    """
    if not text:
      return None
    way, _, metric = text.partition(' ')
    if way not in _WAYS or not metric.startswith('eval_'):
      raise UsageError(
        f"schedule.keep_best='{text}': give 'lowest' or 'highest' and a "
        "held-out metric, such as 'lowest eval_loss', or nothing"
      )
    return cls(metric, way)

  def check(self, known: Sequence[str]) -> None:
    """Checks that it is one of the metrics that an evaluation yields.

    Raises:
      UsageError: Naming those.
    """
    if self.metric not in known:
      raise UsageError(
        f"schedule.keep_best names '{self.metric}': choose one of "
        f'{", ".join(sorted(known)) or "nothing, there is no held-out data"}'
      )

  def step(self, metrics: Mapping[int, Mapping[str, float]]) -> int | None:
    """Picks the best step, of equal ones the newest; None where none has it.

    Args:
      metrics: Step -> held-out metrics, empty where none were taken.
    """
    sign = 1.0 if self.way == 'highest' else -1.0
    values = {
      step: sign * row[self.metric]
      for step, row in metrics.items()
      if math.isfinite(row.get(self.metric, math.nan))
    }
    return max(values, key=lambda step: (values[step], step), default=None)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When to do what, in steps; 0 is never, but the last step does all.

  Attributes:
    total_steps: Of the training.
    log_every: Between lines of the record.
    eval_every: Between evaluations.
    save_every: Between checkpoints, of which the newest few stay.
    keep_every: Between checkpoints that stay for ever.
    keep_best: `'lowest eval_nll'`: the checkpoint that is best by a held-out
      metric stays too, and is what readers take. Every evaluation saves.
    earlier: What `total_steps` was before; see `Horizon`.
  """

  total_steps: int
  log_every: int
  eval_every: int
  save_every: int
  keep_every: int = 0
  keep_best: str = ''
  earlier: Earlier = ()

  @property
  def horizon(self) -> Horizon:
    """What shares of the training refer to."""
    return Horizon(self.total_steps, tuple(map(tuple, self.earlier)))

  @property
  def best(self) -> Best | None:
    """What `keep_best` says.

    Raises:
      UsageError: If it says nothing sensible.
    """
    return Best.parse(self.keep_best)

  def logs(self, step: int) -> bool:
    """Whether step number `step` (from 1) is logged; an eval step is."""
    return self._due(step, self.log_every) or self.evaluates(step)

  def evaluates(self, step: int) -> bool:
    """Whether held-out metrics are taken after step `step`."""
    return self._due(step, self.eval_every)

  def saves(self, step: int) -> bool:
    """Whether a checkpoint is written after step `step`."""
    return (
      self._due(step, self.save_every)
      or self._due(step, self.keep_every)
      or (bool(self.keep_best) and self.evaluates(step))
    )

  def _due(self, step: int, every: int) -> bool:
    return step == self.total_steps or (every > 0 and step % every == 0)
