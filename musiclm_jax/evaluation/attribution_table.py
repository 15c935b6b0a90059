"""Stage attribution on the page: figures of rows of the cascade -> tables.

`attribution_<row>_<measure>` is the figure of a row,
`attribution_cost_<row>_<measure>` what its stage costs; `details` says which
stage is the weakest.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from musiclm_jax.evaluation import cells
from musiclm_jax.evaluation.results import Side
from musiclm_jax.metrics.attribution import ABLATION, STAGES

KEY = 'attribution'
_PREFIX, _COST = f'{KEY}_', f'{KEY}_cost_'
# In the order of the table; what `details` lists beyond them comes last.
_ROWS = (*STAGES, ABLATION)


def owns(key: str) -> bool:
  """Whether a figure belongs to these tables."""
  return key.startswith(_PREFIX)


def verdicts(sides: Sequence[Side]) -> str:
  """A line on the weakest stage of each side; empty without attribution."""
  lines = []
  for side in sides:
    found = side.results.details.get(KEY)
    if not isinstance(found, Mapping):
      continue
    weakest, largest = found.get('weakest'), found.get('largest')
    told = f'the stage that loses most is {weakest}'
    if weakest is None:
      told = 'no stage stands out as the one that loses most'
      if largest:
        told += f'; the largest cost is that of {largest}'
    cost = found.get('cost')
    if isinstance(cost, Mapping) and 'value' in cost:
      bounds = f'[{cells.number(cost["low"])}, {cells.number(cost["high"])}]'
      told += f', {cells.number(cost["value"])} {bounds}'
    if found.get('deciding'):
      told += f' of {found["deciding"]}'
    lines.append(f'{side.name}: {told}.')
    lines += map(str, found.get('remarks') or ())
  return ''.join(f'<p class="verdict">{html.escape(x)}</p>' for x in lines)


def tables(sides: Sequence[Side]) -> str:
  """Two tables of each side: figures of the rows, and costs of the stages."""
  parts = []
  for side in sides:
    figures = side.results.figures
    for prefix, words, explained in (
      (
        _PREFIX,
        'Stage attribution',
        'Reference clips made again: from row to row one stage more is a '
        "network's own instead of the truth. Columns are rows of the cascade.",
      ),
      (
        _COST,
        'What each stage costs',
        'A row less the row before it, over the same clips; at and below 0 the '
        'stage costs nothing.',
      ),
    ):
      found = _cells(figures, prefix, _rows_of(side))
      if found:
        parts.append(
          f'<h2>{words}: {html.escape(side.name)}</h2><p>{explained}</p>'
          f'<div class="scroll">{_table(side, prefix, found)}</div>'
        )
  return ''.join(parts)


def _rows_of(side: Side) -> tuple[str, ...]:
  listed = side.results.details.get(KEY, {}).get('rows') or ()
  return tuple(dict.fromkeys((*_ROWS, *map(str, listed))))


def _cells(
  figures: Mapping[str, Any], prefix: str, rows: Sequence[str]
) -> dict[str, dict[str, str]]:
  """Measure -> row -> key of the figure."""
  found: dict[str, dict[str, str]] = {}
  for key in figures:
    if not key.startswith(prefix):
      continue
    rest = key.removeprefix(prefix)
    # The longest name counts: one may begin as another does.
    matching = [row for row in rows if rest.startswith(f'{row}_')]
    if matching:
      row = max(matching, key=len)
      found.setdefault(rest.removeprefix(f'{row}_'), {})[row] = key
  return found


def _table(
  side: Side, prefix: str, found: Mapping[str, Mapping[str, str]]
) -> str:
  facts = side.results.details.get(KEY) or {}
  used = {row for keys in found.values() for row in keys}
  rows = [row for row in _rows_of(side) if row in used]
  weakest = facts.get('weakest')
  head = ''.join(
    f'<th{_mark(row == weakest)}>{html.escape(row)}</th>' for row in rows
  )
  lines = []
  for measure, keys in found.items():
    told = html.escape(measure)
    if measure == facts.get('deciding'):
      told = f'<b>{told}</b> (decides)'
    marked = any(
      side.results.details.get(key, {}).get('qualified') is False
      for key in keys.values()
    )
    if marked:
      told += '<br><span class="bounds">classifier not good enough</span>'
    line = ''
    for row in rows:
      key = keys.get(row, '')
      value = side.results.figures.get(key)
      shown = cells.with_bounds(value, side.results.details.get(key, {}))
      line += f'<td{_mark(row == weakest)}>{shown}</td>'
    lines.append(f'<tr><td>{told}</td>{line}</tr>')
  name = 'costs' if prefix == _COST else 'attribution'
  return (
    f'<table class="figures {name}"><tr><th>measure</th>{head}</tr>'
    f'{"".join(lines)}</table>'
  )


def _mark(is_weakest: bool) -> str:
  return ' class="weakest"' if is_weakest else ''
