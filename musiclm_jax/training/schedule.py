"""When a training logs, evaluates and saves."""

import dataclasses

from musiclm_jax.training.retention import Best


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
  """

  total_steps: int
  log_every: int
  eval_every: int
  save_every: int
  keep_every: int = 0
  keep_best: str = ''

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
