"""What paper-sized trainings need: every paper config on five TPU slices.

  python experiments/hardware/run.py [--again] [--effort=full]

Each row is a rehearsal in a process of its own, a file in `rows/`; rows that
are there are left alone, so that the table goes on where it was stopped.
"""

import argparse
import json
import math
import runpy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.rehearsal.table import changes_in_words, gigabytes, percent
from musiclm_jax.rehearsal.topology import spellings

FOLDER = Path(__file__).parent
CONFIGS = FOLDER.parents[1] / 'configs'
MACHINES = ('v4-8', 'v5e-16', 'v5e-256', 'v5p-2048', 'v6e-256')
STAGES = ('semantic', 'coarse', 'fine', 'kmeans', 'mulan_rvq', 'melody_rvq')
STAGES += ('melody', 'mulan', 'w2v_bert', 'soundstream', 'parallel')
LANGUAGE_MODELS = STAGES[:3]
# Where the largest MFU of the language models is looked for, and how large.
LARGEST = ('v5e-256', 'v5p-2048')
WANTED_MFU = 0.6
# A batch so many times the own one, and where it is planted: rows of the
# melody's quantizer are small.
PLANTED = {stage: 64 for stage in STAGES} | {'melody_rvq': 4096}
PLANTED_ON = 'v5e-16'
_BEGIN, _END = '<!-- rows -->', '<!-- end of rows -->'


def main() -> None:
  """Writes what is missing of the table, and the page."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--again', action='store_true', help='forget the rows')
  parser.add_argument('--effort', default='quick', help='of XLA, see rehearse')
  options = parser.parse_args()
  rows = FOLDER / 'rows'
  rows.mkdir(exist_ok=True)
  if options.again:
    for row in _plan():
      _file(rows, *row).unlink(missing_ok=True)
  for stage, machine, kind in _plan():
    file = _file(rows, stage, machine, kind)
    if not file.exists():
      _write_row(file, stage, machine, kind, options.effort)
      write_page()


def _plan() -> Iterator[tuple[str, str, str]]:
  """(stage, machine, kind of row), language models first."""
  for stages in (LANGUAGE_MODELS, STAGES[3:]):
    for stage in stages:
      for machine in MACHINES:
        yield stage, machine, ''
    for stage in stages:
      if stage in LANGUAGE_MODELS:
        for machine in LARGEST:
          yield stage, machine, 'largest'
  for stage in STAGES:
    yield stage, PLANTED_ON, 'planted'


def _file(rows: Path, stage: str, machine: str, kind: str) -> Path:
  return rows / f'{stage}.{machine}{kind and "." + kind}.json'


def _write_row(
  file: Path, stage: str, machine: str, kind: str, effort: str
) -> None:
  """Rehearses one row; a larger batch only where it is needed."""
  config = runpy.run_path(str(CONFIGS / f'{stage}.py'))['get_config']('paper')
  own = config.data.batch_size
  shape = spellings()[machine].partition(':')[2]
  chips = math.prod(map(int, shape.split('x')))
  size = math.ceil(own / chips) * chips  # what divides
  if kind == 'largest':
    plain = read_row(file.with_name(f'{stage}.{machine}.json'))
    size = larger_batch(plain)
  elif kind == 'planted':
    size *= PLANTED[stage]
  if kind == 'largest' and size == plain['batch_size']:
    result = plain
  else:
    partial = file.with_suffix('.partial')
    print(f'{stage} on {machine}, batch {size:,} {kind}', flush=True)
    done = subprocess.run(
      [
        *(sys.executable, '-m', 'musiclm_jax.rehearse'),
        f'--config={CONFIGS / stage}.py:paper',
        f'--config.data.batch_size={size}',
        f'--topology={machine}',
        f'--effort={effort}',
        f'--json={partial}',
      ],
      check=False,
    )
    if done.returncode:
      print(f'no row of {stage} on {machine}', file=sys.stderr, flush=True)
      return
    result = read_row(partial)
    result.pop(ownership.SEAL)
    partial.unlink()
  text = json.dumps({**result, 'own_batch_size': own}, indent=1)
  atomic_file.write_text(file, text + '\n')


def larger_batch(row: Mapping[str, Any]) -> int:
  """The least multiple of a row's batch that computing binds.

  What binds otherwise is mostly of the parameters, whatever the batch.
  """
  if not row['fits'] or row['max_mfu'] >= WANTED_MFU:
    return row['batch_size']
  longest = max(row['t_ici'], row['t_hbm'])
  factor = 2 ** math.ceil(math.log2(longest / row['t_compute']))
  return max(2, factor) * row['batch_size']


def read_row(file: Path) -> dict[str, Any]:
  """Reads a row."""
  return json.loads(file.read_text())


def write_page() -> None:
  """Puts the rows into the page, between its two marks."""
  page = FOLDER / 'README.md'
  if not page.exists():
    return
  before, _, rest = page.read_text(encoding='utf-8').partition(_BEGIN)
  _, _, after = rest.partition(_END)
  text = '\n\n'.join([before + _BEGIN, *_tables(FOLDER / 'rows'), _END + after])
  atomic_file.write_text(page, text)


def _tables(rows: Path) -> Iterator[str]:
  for kind, title in (
    ('', 'Own batch, or the next that divides'),
    ('largest', 'Language models at a batch that computing binds'),
    ('planted', f'A batch that is too large on {PLANTED_ON}'),
  ):
    found = [
      read_row(file)
      for stage in STAGES
      for machine in MACHINES
      for file in [rows / f'{stage}.{machine}{kind and "." + kind}.json']
      if file.exists()
    ]
    if found:
      yield f'### {title}\n\n' + '\n'.join([*_HEAD, *map(_line, found)])


_HEAD = (
  '| config | machine | batch | memory a chip | MFU, at most | bound by '
  '| compute, memory, links | this fits |',
  '|---|---|---|---|---|---|---|---|',
)


def _line(row: Mapping[str, Any]) -> str:
  size, own = row['batch_size'], row['own_batch_size']
  batch = f'{size:,}' if size == own else f'{size:,} (own {own:,})'
  least = '' if row['fits'] else '> '
  memory = f'{least}{gigabytes(row["peak_hbm_bytes"])}'
  limit = gigabytes(row['hbm_limit_bytes'])
  times = [row['t_compute'], row['t_hbm'], row['t_ici']]
  shown = ', '.join('-' if t is None else f'{1e3 * t:.3g}' for t in times)
  fits = '' if row['fits'] else _proposal(row['suggestion'])
  cells = (
    row['stage'],
    row['topology'],
    batch,
    f'{memory} of {limit}',
    percent(row['max_mfu']),
    row['bound_by'] or 'does not fit',
    f'{shown} ms',
    fits,
  )
  return f'| {" | ".join(cells)} |'


def _proposal(suggestion: Mapping[str, Any] | None) -> str:
  if suggestion is None:
    return 'nothing found'
  reached = percent(suggestion['max_mfu'])
  size = gigabytes(suggestion['peak_hbm_bytes'])
  return f'`{changes_in_words(suggestion)}`: {size}, {reached}'


if __name__ == '__main__':
  main()
