"""Prints the gates of several demos side by side, as Markdown.

`python experiments/tiny_cascade/table.py runs/cascade/report.json [REPORT ...]`

A column is a report, a row a gate: its value, the figure that it is compared
with, and whether it holds; what only asks for size is "not reached" where it
does not. Stages, with their seconds and memory, follow.
"""

import json
import sys
from pathlib import Path


def _figure(value: float | None) -> str:
  return '–' if value is None else f'{value:.3g}'


def _cell(gate: dict | None) -> str:
  if gate is None:
    return '–'
  word = 'not reached' if gate.get('kind') == 'size' else '**no**'
  word = 'ok' if gate['passed'] else word
  bounds = ''
  if gate['low'] is not None:
    bounds = f' [{_figure(gate["low"])}, {_figure(gate["high"])}]'
  chance = _figure(gate['chance'])
  return f'{_figure(gate["value"])}{bounds} vs {chance}: {word}'


def _rows(reports: list[dict], key: str, cell) -> list[str]:
  """One row for each name under `key`, in the order in which they appear."""
  lines = []
  names = dict.fromkeys(row['name'] for r in reports for row in r[key])
  for name in names:
    cells = []
    for report in reports:
      found = [row for row in report[key] if row['name'] == name]
      cells.append(cell(found[0] if found else None))
    lines.append(f'| {name} | {" | ".join(cells)} |')
  return lines


def _stage(stage: dict | None) -> str:
  if stage is None:
    return '–'
  return f'{stage["seconds"]:.0f} s, {stage["peak_bytes"] / 1e9:.1f} GB'


def main(paths: list[str]) -> None:
  """Prints both tables."""
  reports = [json.loads(Path(path).read_text()) for path in paths]
  head = ' | '.join(paths)
  rule = '---|' * (len(paths) + 1)
  print(f'| gate | {head} |\n|{rule}')
  print('\n'.join(_rows(reports, 'gates', _cell)))
  held = [sum(gate['passed'] for gate in r['gates']) for r in reports]
  total = [len(report['gates']) for report in reports]
  counts = [f'{h} of {t}' for h, t in zip(held, total, strict=True)]
  print(f'| hold | {" | ".join(counts)} |\n')
  print(f'| stage | {head} |\n|{rule}')
  print('\n'.join(_rows(reports, 'stages', _stage)))


if __name__ == '__main__':
  if len(sys.argv) < 2:
    sys.exit(f'usage: {sys.argv[0]} REPORT [REPORT ...]')
  main(sys.argv[1:])
