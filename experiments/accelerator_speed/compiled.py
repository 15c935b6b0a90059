"""What a compiler says of the small training steps, where no accelerator is.

  python experiments/accelerator_speed/compiled.py [--topology=…] [--only=…]

Each step is rehearsed for a TPU slice that is not there: bounds of its speed,
and which of computing (a product at full precision takes six passes) and
moving binds it.
Rows go into compiled.jsonl, and a table is printed.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from musiclm_jax.stages import STAGES

HERE = Path(__file__).parent


def rehearse(stage: str, topology: str) -> dict[str, Any]:
  """The rehearsal of a stage's small config."""
  with tempfile.TemporaryDirectory() as folder:
    row = Path(folder) / 'row.json'
    command = [
      *(sys.executable, '-m', 'musiclm_jax.rehearse'),
      f'--config={stage}:small',
      f'--topology={topology}',
      f'--json={row}',
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(row.read_text())


def line(row: dict[str, Any]) -> str:
  """A row of the table."""
  return (
    f'| {row["stage"]} | {row["batch_size"]:,} | {100 * row["max_mfu"]:.1f} % '
    f'| {row["bound_by"]} | {1e3 * row["t_compute"]:.3g} ms '
    f'| {1e3 * row["t_hbm"]:.3g} ms | {row["hbm_bytes"] / 1e9:.3g} GB |'
  )


def main() -> None:
  """Rehearses all stages."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--topology', default='v5e-4')
  parser.add_argument('--only', default=','.join(STAGES))
  options = parser.parse_args()
  head = ('step', 'batch', 'MFU, at most', 'bound by', 'compute', 'memory')
  print('', *head, 'moved a chip', '', sep=' | ')
  print('|---' * (len(head) + 1) + '|')
  done = HERE / 'compiled.jsonl'
  for stage in options.only.split(','):
    row = rehearse(stage, options.topology)
    row['date'] = datetime.date.today().isoformat()
    del row['collectives']
    with done.open('a') as file:
      file.write(json.dumps(row) + '\n')
    print(line(row), flush=True)


if __name__ == '__main__':
  main()
