"""What a second of music costs at paper size: two TPU slices, all stages.

  python experiments/generation_cost/run.py [--again]

Each row is a rehearsal in a process of its own, a file in `rows/`; rows that
are there are left alone.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from musiclm_jax.contracts import atomic_file

FOLDER = Path(__file__).parent
CONFIGS = FOLDER.parents[1] / 'configs'
# Slice -> chips that share a piece.
MACHINES = {'v5e:2x4': (1, 8), 'v4-8': (1, 4)}
STAGES = ('semantic', 'coarse', 'fine', 'parallel', 'soundstream')
CASCADES = {
  'semantic, coarse, fine': ('semantic', 'coarse', 'fine', 'soundstream'),
  'semantic, parallel': ('semantic', 'parallel', 'soundstream'),
}
_BEGIN, _END = '<!-- rows -->', '<!-- end of rows -->'


def main() -> None:
  """Writes what is missing of the table, and the page."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--again', action='store_true', help='forget the rows')
  again = parser.parse_args().again
  for stage, machine, tensor in _plan():
    file = _file(stage, machine, tensor)
    if again or not file.exists():
      _write_row(file, stage, machine, tensor)
  text = (FOLDER / 'README.md').read_text()
  before, rest = text.split(_BEGIN)
  page = f'{before}{_BEGIN}\n{tables()}\n{_END}{rest.split(_END)[1]}'
  atomic_file.write_text(FOLDER / 'README.md', page)


def _plan() -> Iterator[tuple[str, str, int]]:
  for machine, shared in MACHINES.items():
    for tensor in shared:
      for stage in STAGES:
        yield stage, machine, tensor


def _file(stage: str, machine: str, tensor: int) -> Path:
  name = machine.replace(':', '-')
  return FOLDER / 'rows' / f'{stage}.{name}.{tensor}.json'


def _write_row(file: Path, stage: str, machine: str, tensor: int) -> None:
  """Rehearses one row."""
  file.parent.mkdir(exist_ok=True)
  print(f'{stage} on {machine}, {tensor} chips a piece', flush=True)
  subprocess.run(
    [
      *(sys.executable, '-m', 'musiclm_jax.rehearse', '--generation'),
      f'--config={CONFIGS / stage}.py:paper',
      f'--config.mesh.tensor={tensor}',
      *(f'--topology={machine}', f'--json={file}', '--overwrite'),
    ],
    check=True,
  )


def _row(stage: str, machine: str, tensor: int) -> Mapping[str, Any]:
  return json.loads(_file(stage, machine, tensor).read_text())


def tables() -> str:
  """Rows of all stages, and the sums of two cascades."""
  lines = [
    '| slice | chips a piece | pieces | stage | FLOPs | read, GB a chip | '
    's, at least | bound by | memory, GB a chip |',
    '|---|---|---|---|---|---|---|---|---|',
  ]
  sums = [
    '| slice | chips a piece | pieces | cascade | real-time factor, at least |'
    ' memory, GB a chip |',
    '|---|---|---|---|---|---|',
  ]
  for machine, shared in MACHINES.items():
    for tensor in shared:
      rows = {stage: _row(stage, machine, tensor) for stage in STAGES}
      lines += [_line(row, tensor) for row in rows.values()]
      for name, stages in CASCADES.items():
        sums.append(_sum(name, [rows[stage] for stage in stages], tensor))
  return '\n'.join([*sums, '', *lines])


def _line(row: Mapping[str, Any], tensor: int) -> str:
  cells = [
    *(row['topology'], tensor, row['pieces'], row['stage']),
    f'{row["flops"]:.2e}',
    f'{row["hbm_bytes"] / 1e9:.1f}',
    f'{row["seconds"]:.3f}',
    row['bound_by'],
    f'{row["peak_hbm_bytes"] / 1e9:.2f} of {row["hbm_limit_bytes"] / 1e9:.1f}',
  ]
  return f'| {" | ".join(map(str, cells))} |'


def _sum(name: str, rows: list[Mapping[str, Any]], tensor: int) -> str:
  """A cascade: its parameters lie side by side, its stages take turns."""
  parameters = sum(row['parameter_bytes'] for row in rows)
  working = max(row['peak_hbm_bytes'] - row['parameter_bytes'] for row in rows)
  cells = [
    *(rows[0]['topology'], tensor, rows[0]['pieces'], name),
    f'{sum(row["seconds"] for row in rows):.3f}',
    f'{(parameters + working) / 1e9:.2f} of '
    f'{rows[0]["hbm_limit_bytes"] / 1e9:.1f}',
  ]
  return f'| {" | ".join(map(str, cells))} |'


if __name__ == '__main__':
  main()
