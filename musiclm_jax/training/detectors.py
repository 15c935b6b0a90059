"""Health checks: slow failures, detected in the logged metrics.

rows, oldest first -> a line that says what is wrong and what to do, or None.
A detector knows no model: a task names the metrics to watch (`Task`'s
`batch_info`). All are functions of the record alone, so what they say is the
same for a run in one piece and for one that was killed and went on.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from musiclm_jax.contracts.task import HealthCheck

Row = Mapping[str, Any]

LOGS, STEPS = 5, 100  # for so long at least a metric must look wrong
GUESSING_SHARE = 0.1  # of the training, before a guess is no beginner's
COLLAPSED = 0.05  # of the codes' even use
SLOW_SHARE, SLOW_SECONDS = 0.3, 20.0  # of waiting for data
_NEAR = 0.01
_STILL = 1e-6


@dataclasses.dataclass(frozen=True)
class Detector:
  """Finds a metric that looks wrong against its reference.

  Attributes:
    wrong: Whether value and reference look wrong.
    line: What to say; has places for `metric`, `value`, `reference` and
      `since`, the step since which it looks wrong.
    share: Of the training's steps for which it must have, `STEPS` at least.
  """

  wrong: Callable[[float, float], bool]
  line: str
  share: float = 0.0

  def __call__(
    self, rows: Sequence[Row], check: HealthCheck, total_steps: int
  ) -> str | None:
    """Says what is wrong with what `check` watches, or None."""
    found = []
    for row in reversed(rows):
      value, reference = row.get(check.metric), check.reference
      if isinstance(reference, str):
        reference = row.get(reference)
      if row['step'] <= check.since or None in (value, reference):
        break
      if not self.wrong(value, reference):
        break
      found.append((row['step'], value, reference))
    patience = max(STEPS, round(self.share * total_steps))
    if len(found) < LOGS or found[0][0] - found[-1][0] < patience:
      return None
    (_, value, reference), (since, *_) = found[0], found[-1]
    return self.line.format(
      metric=check.metric, value=value, reference=reference, since=since
    )


DETECTORS: Mapping[str, Detector] = {
  # A perplexity at less than 5 % of the way from 1 to the best.
  'collapsed codebook': Detector(
    lambda value, best: value - 1.0 < COLLAPSED * (best - 1.0),
    '{metric} is {value:.1f} where {reference:.0f} codes could be in use, and '
    'was as low since step {since}: this codebook has collapsed; begin again '
    'with a lower learning_rate, a smaller codebook_size or larger batches',
  ),
  # A loss that is still that of a guess after a tenth of the steps.
  'at chance': Detector(
    lambda value, chance: value > (1 - _NEAR) * chance,
    '{metric} is {value:.4f}, and a guess has {reference:.4f}: nothing was '
    'learned since step {since}; look whether the pairs of the data belong '
    'together, then lower learning_rate or lengthen warmup_steps',
    GUESSING_SHARE,
  ),
  # A discriminator that tells nothing apart, or does not change.
  'silent discriminator': Detector(
    lambda value, mute: abs(value - mute) <= max(_NEAR * abs(mute), _STILL),
    '{metric} stays at {reference:g} since step {since}: the discriminator '
    'tells nothing apart, so the codec learns nothing from it; raise its '
    'learning_rate, or begin again',
  ),
}


def slow_input(speeds: Sequence[Mapping[str, float]]) -> str | None:
  """Finds that the last logs all spent 30 % of their time on waiting for data.

  Args:
    speeds: Of `Clock.figures`, oldest first; they depend on the clock.
  """
  slow = 0
  for speed in reversed(speeds):
    if speed['data_share'] < SLOW_SHARE:
      break
    slow += 1
  before = speeds[-slow - 1] if slow < len(speeds) else {}
  waited = speeds[-1].get('seconds_data', 0.0) - before.get('seconds_data', 0.0)
  if not slow or waited < SLOW_SECONDS:
    return None
  return (
    f'{100 * speeds[-1]["data_share"]:.0f} % of the time goes into waiting for '
    f'data, {waited:.0f} s by now: put it on a faster disk, or give this '
    'machine more cores'
  )


class Alarms:
  """Runs the detectors of a task over its rows, each alarm once."""

  def __init__(
    self,
    health_checks: Iterable[HealthCheck],
    total_steps: int,
    rows: Sequence[Row] = (),
  ):
    """Takes up where a record ends.

    Args:
      health_checks: What the task says to watch.
      total_steps: Of the training.
      rows: Of the record so far.
    """
    self._checks, self._total = tuple(health_checks), total_steps
    self._rows = list(rows)
    self._told = {name for row in rows for name in row.get('warnings', ())}

  def add(self, row: Row) -> dict[str, str]:
    """Takes in a row; returns new alarms, cause -> line."""
    self._rows.append(row)
    found = {}
    for check in self._checks:
      cause = f'{check.detector}: {check.metric}'
      if cause not in self._told:
        line = DETECTORS[check.detector](self._rows, check, self._total)
        if line:
          found[cause] = line
    self._told |= found.keys()
    return found
