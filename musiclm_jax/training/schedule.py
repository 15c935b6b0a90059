"""When a training logs, evaluates and saves."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When to do what, in steps; 0 is never, but the last step does all."""

  total_steps: int
  log_every: int
  eval_every: int
  save_every: int

  def logs(self, step: int) -> bool:
    """Whether step number `step` (from 1) is logged; an eval step is."""
    return self._due(step, self.log_every) or self.evaluates(step)

  def evaluates(self, step: int) -> bool:
    """Whether held-out metrics are taken after step `step`."""
    return self._due(step, self.eval_every)

  def saves(self, step: int) -> bool:
    """Whether a checkpoint is written after step `step`."""
    return self._due(step, self.save_every)

  def _due(self, step: int, every: int) -> bool:
    return step == self.total_steps or (every > 0 and step % every == 0)
