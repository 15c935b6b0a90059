"""Health checks: slow failures, detected in the logged metrics.

rows, oldest first -> a line that says what is wrong and what to do, or None.
A detector knows no model: a task names the metrics to watch (`Task`'s
`batch_info`). All are functions of the record alone, so what they say is the
same for a run in one piece and for one that was killed and went on.
"""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from musiclm_jax.contracts.task import HealthCheck

Row = Mapping[str, Any]
Detector = Callable[[Sequence[Row], HealthCheck, int], str | None]

LOGS, STEPS = 5, 100  # for so long at least a metric must look wrong
GUESSING_SHARE = 0.1  # of the training, before a guess is no beginner's
COLLAPSED = 0.05  # of the codes' even use
SLOW_SHARE, SLOW_SECONDS = 0.3, 20.0  # of waiting for data
_NEAR = 0.01
_STILL = 1e-6


def _detector(
  wrong: Callable[[float, float], bool], line: str, share: float = 0.0
) -> Detector:
  """Makes a detector of a metric that looks wrong against its reference.

  Args:
    wrong: Of value and reference.
    line: What to say; has places for `metric`, `value`, `reference` and
      `since`, the step since which it looks wrong.
    share: Of the training's steps for which it must have, `STEPS` at least.
  """

  def find(
    rows: Sequence[Row], check: HealthCheck, total_steps: int
  ) -> str | None:
    steps = []
    for row in reversed(rows):
      value, reference = row.get(check.metric), _reference(row, check)
      if row['step'] <= check.since or value is None or reference is None:
        break
      if not wrong(value, reference):
        break
      steps.append(row['step'])
    patience = max(STEPS, round(share * total_steps))
    if len(steps) < LOGS or steps[0] - steps[-1] < patience:
      return None
    return line.format(
      metric=check.metric,
      value=rows[-1][check.metric],
      reference=_reference(rows[-1], check),
      since=steps[-1],
    )

  return find


def _reference(row: Row, check: HealthCheck) -> float | None:
  named = isinstance(check.reference, str)
  return row.get(check.reference) if named else check.reference


# A perplexity at less than 5 % of the way from 1 to the best.
collapsed_codebook = _detector(
  lambda value, best: value - 1.0 < COLLAPSED * (best - 1.0),
  '{metric} is {value:.1f} where {reference:.0f} codes could be in use, and '
  'was as low since step {since}: this codebook has collapsed; begin again '
  'with a lower learning_rate, a smaller codebook_size or larger batches',
)
# A loss that is still that of a guess after a tenth of the steps.
at_chance = _detector(
  lambda value, chance: value > (1 - _NEAR) * chance,
  '{metric} is {value:.4f}, and a guess has {reference:.4f}: nothing was '
  'learned since step {since}; look whether the pairs of the data belong '
  'together, then lower learning_rate or lengthen warmup_steps',
  GUESSING_SHARE,
)
# A discriminator that tells nothing apart, or does not change.
silent_discriminator = _detector(
  lambda value, mute: abs(value - mute) <= max(_NEAR * abs(mute), _STILL),
  '{metric} stays at {reference:g} since step {since}: the discriminator '
  'tells nothing apart, so the codec learns nothing from it; raise its '
  'learning_rate, or begin again',
)
DETECTORS: Mapping[str, Detector] = {
  'collapsed codebook': collapsed_codebook,
  'at chance': at_chance,
  'silent discriminator': silent_discriminator,
}


def slow_input(speeds: Sequence[Mapping[str, float]]) -> str | None:
  """Finds that the last logs all spent 30 % of their time on waiting for data.

  Args:
    speeds: Records of `Scale.speed`, oldest first; they depend on the clock.
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
    rows: Iterable[Row] = (),
  ):
    """Takes up where a record ends.

    Args:
      health_checks: What the task says to watch.
      total_steps: Of the training.
      rows: Of the record so far.
    """
    self._checks, self._total = tuple(health_checks), total_steps
    self._horizon = max(STEPS, round(GUESSING_SHARE * total_steps))
    self._rows: collections.deque[Row] = collections.deque()
    self._told: set[str] = set()
    for row in rows:
      self._remember(row)
      self._told |= set(row.get('warnings', ()))

  def add(self, row: Row) -> dict[str, str]:
    """Takes in a row; returns new alarms, cause -> line."""
    self._remember(row)
    found = {}
    for check in self._checks:
      cause = f'{check.detector}: {check.metric}'
      if cause not in self._told:
        line = DETECTORS[check.detector](tuple(self._rows), check, self._total)
        if line:
          found[cause] = line
    self._told |= found.keys()
    return found

  def _remember(self, row: Row) -> None:
    """Keeps one row at or before the horizon, and all since."""
    self._rows.append(row)
    limit = row['step'] - self._horizon
    while len(self._rows) > LOGS and self._rows[1]['step'] <= limit:
      self._rows.popleft()
