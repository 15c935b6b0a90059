"""Which checkpoints stay: the newest, the best, and one every so many steps."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.contracts.errors import UsageError

KEEP = 3  # so that an older one is there when the newest is damaged
_WAYS = ('lowest', 'highest')

Metrics = Mapping[str, float]


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

  def step(self, metrics: Mapping[int, Metrics]) -> int | None:
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


@dataclasses.dataclass
class Retention:
  """Orbax's `PreservationPolicy` of this project.

  Attributes:
    best: Whose best checkpoint stays, or None.
    keep_every: Checkpoints of multiples of so many steps stay; 0 is none.
    metrics: Step -> held-out metrics, of every checkpoint that has some.
    readable: The newest checkpoint that has been read, which stays as well.
  """

  best: Best | None = None
  keep_every: int = 0
  metrics: dict[int, Metrics] = dataclasses.field(default_factory=dict)
  readable: int | None = None

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    """Says of each checkpoint, oldest first, whether it stays."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = {*steps[-KEEP:], self.readable}
    if self.keep_every:
      kept |= {step for step in steps if step % self.keep_every == 0}
    if self.best:
      kept.add(self.best.step({s: self.metrics.get(s, {}) for s in steps}))
    return [step in kept for step in steps]
