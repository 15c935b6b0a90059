"""The table of gates: what must hold, where to look when it does not.

A gate of *machinery* says whether something works at all: where one does not
hold, the run has failed. A gate of *size* says whether the networks are large
enough and trained long enough: where it does not hold it is reported as "not
reached at this size", and binds only a model that is shipped. A gate of size
may hold conditions of machinery too; while one of these fails, so does the run.

Every `*_gates` function turns the figures of one room into gates; an
interval's bounds are 95 % bounds over pieces or prompts. Where a figure is
compared with a measured baseline, the bounds are those of the paired
difference, moved to the baseline, so that `low > chance` reads the same in
every row.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.contracts.kept_parts import Arrays, Keep
from musiclm_jax.metrics.bootstrap import Interval

# name -> the stage to look at when it fails, in the order of the report
STAGE_OF = {
  'codec_distance': 'soundstream',
  'codec_levels': 'soundstream',
  'codec_usage': 'soundstream',
  'codec_roundtrip': 'soundstream',
  'semantic_usage': 'kmeans',
  'semantic_probe': 'w2v_bert',
  'mulan_recall': 'mulan',
  'mulan_handover': 'mulan_rvq',
  'semantic_nll': 'semantic',
  'coarse_nll': 'coarse',
  'fine_nll': 'fine',
  'lm_conditioning': 'semantic',
  'lm_perturb': 'semantic',
  'cascade_prompt': 'semantic',
  'cascade_family': 'semantic',
  'cascade_tempo': 'semantic',
  'cascade_music': 'semantic',
  'cascade_copy': 'semantic',
  'negative_controls': 'evaluate',
  'audio_sane': 'coarse',
}
MACHINERY, SIZE = 'machinery', 'size'
# What no run of `tiny` has reached that was examined so; the others are of
# machinery.
SIZE_GATES = frozenset(
  {
    *('semantic_probe', 'lm_conditioning', 'cascade_prompt', 'cascade_family'),
    *('cascade_tempo', 'cascade_music', 'audio_sane'),
  }
)
# What a part of the evaluation finds: gates, figures, clips.
Found = tuple[list['Gate'], dict[str, Any], tuple[np.ndarray, ...]]
LARGEST_CODEC_RATIO = 0.40
SMALLEST_CODEC_USAGE = 0.30
SMALLEST_CODEC_FRAMES = 8192
SMALLEST_SEMANTIC_USAGE = 0.25
RECALL_OVER_CHANCE = 5
LARGEST_SEED_AGREEMENT = 0.5
SMALLEST_CEILING_SHARE = 0.9
LARGEST_DEAD_SHARE = 0.1
SMALLEST_KEPT_BY_CODEC = 0.93
SMALLEST_FAMILY_SHARE = 0.6
SMALLEST_PITCH_ACCURACY = 0.75
SMALLEST_CHORD_ACCURACY = 0.4
SMALLEST_ONSET_AREA = 0.8
SMALLEST_INVARIANCE = 2.0


@dataclasses.dataclass(frozen=True)
class Gate:
  """One row of the report.

  Attributes:
    name: As in `STAGE_OF`.
    kind: What fails where it does not hold: `MACHINERY` or `SIZE`.
    stage: To look at when it fails.
    value: The figure.
    chance: Of the same figure: chance level, baseline or threshold.
    low: Lower 95 % bound, None where the figure has no spread.
    high: Upper 95 % bound.
    passed: Whether all conditions hold.
    conditions: In words -> whether it holds.
  """

  name: str
  kind: str
  stage: str
  value: float | None
  chance: float | None
  low: float | None
  high: float | None
  passed: bool
  conditions: Mapping[str, bool]

  def to_json(self) -> dict:
    """The row of report.json, floats rounded to what they are worth."""
    row = dataclasses.asdict(self)
    del row['conditions']
    for key in ('value', 'chance', 'low', 'high'):
      row[key] = None if row[key] is None else round(float(row[key]), 6)
    return row


def make(
  name: str,
  interval: Interval | float | None,
  chance: float | None,
  conditions: Mapping[str, bool],
  *,
  machinery: Mapping[str, bool] | None = None,
  stage: str | None = None,
) -> Gate:
  """Makes a gate that passes when all its conditions hold.

  Args:
    name: As in `STAGE_OF`.
    interval: The figure, with bounds where it has some.
    chance: Chance level, baseline or threshold of the figure.
    conditions: In words -> whether it holds; at least one.
    machinery: Likewise, of a gate of size those that must hold at any size.
    stage: Another stage to look at than the table's.
  """
  if not conditions:
    raise ValueError(f'gate {name} has no condition')
  if isinstance(interval, (int, float)):
    value, low, high = float(interval), None, None
  elif interval is None:
    value = low = high = None
  else:
    value, low, high = interval.value, interval.low, interval.high
  machinery = dict(machinery or {})
  conditions = {
    words: bool(holds) for words, holds in {**machinery, **conditions}.items()
  }
  of_size = name in SIZE_GATES and all(machinery.values())
  return Gate(
    name=name,
    kind=SIZE if of_size else MACHINERY,
    stage=stage or STAGE_OF[name],
    value=value,
    chance=chance,
    low=low,
    high=high,
    passed=all(conditions.values()),
    conditions=conditions,
  )


def failing(
  rows: Sequence[Mapping[str, Any]], strict: bool = False
) -> list[Mapping[str, Any]]:
  """Rows of report.json for which the run fails.

  Args:
    rows: As `Gate.to_json` makes them.
    strict: Whether the model is one that is shipped: gates of size bind too.
  """
  return [
    row
    for row in rows
    if not row['passed'] and (strict or kind_of(row) == MACHINERY)
  ]


def kind_of(row: Mapping[str, Any]) -> str:
  """The kind of a row; reports of earlier versions know of machinery only."""
  return row.get('kind', MACHINERY)


def word(row: Mapping[str, Any]) -> str:
  """Says of a row whether it holds: `ok`, `failed` or `not reached`."""
  if row['passed']:
    return 'ok'
  return 'failed' if kind_of(row) == MACHINERY else 'not reached'


def by_kind(
  rows: Sequence[Mapping[str, Any]],
) -> dict[str, list[Mapping[str, Any]]]:
  """Rows of machinery, then those of size, each in their order."""
  return {
    kind: [row for row in rows if kind_of(row) == kind]
    for kind in (MACHINERY, SIZE)
  }


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
  """What all gates say together, in a few sentences."""
  found = by_kind(rows)
  failed = [row for row in found[MACHINERY] if not row['passed']]
  missed = [row for row in found[SIZE] if not row['passed']]
  names = ', '.join(f'{r["name"]} (look at {r["stage"]})' for r in failed)
  works = (
    f'The machinery fails in {len(failed)} of {len(found[MACHINERY])} gates: '
    f'{names}.'
    if failed
    else f'The machinery works: all {len(found[MACHINERY])} of its gates hold.'
  )
  names = ', '.join(row['name'] for row in missed)
  reached = len(found[SIZE]) - len(missed)
  size = f'Of {len(found[SIZE])} gates of size {reached} are reached'
  return f'{works} {size}' + (
    f'; not reached at this size: {names}.' if missed else '.'
  )


def in_order(gates: Sequence[Gate]) -> list[Gate]:
  """All gates in the table's order.

  Raises:
    ValueError: If one is missing, unknown or there twice.
  """
  names = [gate.name for gate in gates]
  if sorted(names) != sorted(STAGE_OF):
    wrong = set(names) ^ set(STAGE_OF) or {
      name for name in names if names.count(name) > 1
    }
    raise ValueError(f'expected every gate once, wrong: {sorted(wrong)}')
  order = list(STAGE_OF)
  return sorted(gates, key=lambda gate: order.index(gate.name))


def plain(node: Any) -> Any:
  """Numpy figures, intervals and NaN as what JSON can hold."""
  if dataclasses.is_dataclass(node) and not isinstance(node, type):
    return plain(dataclasses.asdict(node))
  if isinstance(node, Mapping):
    return {str(key): plain(value) for key, value in node.items()}
  if isinstance(node, np.ndarray):
    return plain(node.tolist())
  if isinstance(node, (list, tuple)):
    return [plain(value) for value in node]
  if isinstance(node, (bool, np.bool_)):
    return bool(node)
  if isinstance(node, (int, np.integer)):
    return int(node)
  if isinstance(node, (float, np.floating)):
    return round(float(node), 6) if np.isfinite(node) else None
  return node


def measured(keep: Keep, name: str, measure: Callable[[], tuple]) -> Found:
  """Measures, or finds what was measured before an interruption.

  Figures come back as what JSON holds, which is what the report holds.

  Args:
    keep: Keeps the result.
    name: Of the part.
    measure: Returns a gate or several, figures, and perhaps clips.
  """
  kept = keep(f'measured {name}', lambda: _arrays(*measure()))
  gates, figures = json.loads(str(kept['json']))
  clips = (kept[f'clips {k}'] for k in range(len(kept) - 1))
  return [Gate(**gate) for gate in gates], figures, tuple(clips)


def _arrays(
  gates: Gate | list[Gate], figures: dict, clips: tuple[np.ndarray, ...] = ()
) -> Arrays:
  gates = [gates] if isinstance(gates, Gate) else gates
  rows = [dataclasses.asdict(gate) for gate in gates]
  text = json.dumps([rows, plain(figures)], default=lambda node: node.tolist())
  return {
    'json': np.array(text),
    **{f'clips {k}': some for k, some in enumerate(clips)},
  }
