"""How long a training is meant to be, also where that changed on its way.

Phases and annealed numbers are shares of `total_steps`. A training that goes on
with another total never goes back: the share that is behind it stays behind it,
and the rest is spread over the steps that are left.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

# Steps done and what `total_steps` was until then, oldest first.
Earlier = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Horizon:
  """The length of a training.

  Attributes:
    total_steps: Of the whole training, as it is meant to be now.
    earlier: What it was meant to be before.
  """

  total_steps: int
  earlier: Earlier = ()

  @classmethod
  def of(cls, schedule: Mapping[str, Any]) -> 'Horizon':
    """What the section `schedule` of a config says, also of one in JSON."""
    earlier = tuple(map(tuple, schedule.get('earlier', ())))
    return cls(schedule['total_steps'], earlier)

  def begins(self, share: float) -> float:
    """The step, not rounded, at which a share of the training is behind it.

    What has begun stays where it began. What lies beyond the end of a training
    that came to its end stays there too.

    Args:
      share: Of the training, from 0; beyond 1 is beyond its end.
    """
    start, behind = 0, 0.0
    for stop, total in (*self.earlier, (math.inf, self.total_steps)):
      found = start + (share - behind) / (1.0 - behind) * (total - start)
      if found <= stop or stop >= total:
        return found
      start, behind = stop, behind + (1.0 - behind) * _way(stop, start, total)
    raise AssertionError('the last stop is never')

  def share(self, step: Any, *, first: int = 0, last: int | None = None) -> Any:
    """How much of the way is done at a step of the current run, in [0, 1].

    Args:
      step: A number or a traced array.
      first: Where the way begins, such as after a warm-up.
      last: Where it ends, counted from the end: -1 is the last step; None is
        the end.
    """
    before_end = last or 0
    start, behind = first, 0.0
    for stop, total in self.earlier:
      if stop > start:
        way = _way(stop, start, total + before_end)
        start, behind = stop, behind + (1.0 - behind) * way
    length = max(self.total_steps + before_end - start, 1)
    way = jnp.clip((step - start) / length, 0.0, 1.0)
    return behind + (1.0 - behind) * way if self.earlier else way

  def after(self, steps: int, total_steps: int) -> 'Horizon':
    """The length of this training when it goes on after some steps.

    Args:
      steps: That are done.
      total_steps: That it shall have now.
    """
    if not steps or total_steps == self.total_steps:
      return Horizon(total_steps, self.earlier)
    known = (steps, self.total_steps)
    return Horizon(total_steps, (*self.earlier, known))

  @property
  def since_end(self) -> 'Horizon':
    """The same, forgetting all up to the last end that it came to.

    A learning rate that has come to 0 must rise again for anything to be
    learned.
    """
    ended = [k for k, (stop, total) in enumerate(self.earlier) if stop >= total]
    first = ended[-1] + 1 if ended else 0
    return Horizon(self.total_steps, self.earlier[first:])


def _way(step: float, start: float, end: float) -> float:
  return min(max((step - start) / max(end - start, 1.0), 0.0), 1.0)
