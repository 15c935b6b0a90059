"""One training whole, and in slices on machines that are there for minutes.

`python experiments/slices/run.py --tokens=runs/cascade/tokens
--out=runs/slices`

Each slice is a process in a workdir of its own, as on another machine: what it
knows of the one before is the export.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from musiclm_jax.contracts.errors import STOPPED

SLICES = 3
SPARE_MINUTES = 0.4  # a slice compiles, saves and exports
PART_MB = 16


def main() -> None:
  """Trains, compares the last held-out loss and prints a table."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--tokens', required=True)
  flags.add_argument('--out', required=True, type=Path)
  flags.add_argument('--config', default='semantic:tiny')
  given = flags.parse_args()

  def train(workdir: Path, *more: str) -> tuple[int, float]:
    begun = time.monotonic()
    command = [sys.executable, '-m', 'musiclm_jax.train']
    command += [f'--config={given.config}', f'--tokens={given.tokens}']
    code = subprocess.run([*command, f'--workdir={workdir}', *more]).returncode
    if code not in (0, STOPPED):
      sys.exit(f'{workdir} ended with {code}')
    return code, (time.monotonic() - begun) / 60

  whole = given.out / 'whole'
  _, minutes = train(whole)
  last = last_row(whole)
  limit = round(minutes / SLICES * 1.1 + SPARE_MINUTES, 2)
  print(f'whole: step {last["step"]} in {minutes:.2f} minutes', flush=True)
  before: list[str] = []
  for number in range(1, SLICES + 1):
    workdir = given.out / f'slice {number}'
    export = given.out / f'{number}.export'
    code, minutes = train(
      workdir,
      f'--max_minutes={limit}',
      f'--export={export}',
      f'--export_part_mb={PART_MB}',
      *before,
    )
    before = [f'--init_from={export}']
    row = last_row(workdir)
    print(
      f'slice {number}: step {row["step"]}, {minutes:.2f} of {limit} minutes, '
      f'exit code {code}',
      flush=True,
    )
    if not code:
      break
  ratio = row['eval_nll'] / last['eval_nll']
  print(f'eval_nll: whole {last["eval_nll"]:.4f}, {ratio:.4f} of it in slices')


def last_row(workdir: Path) -> dict:
  """The last row of a workdir's record."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return json.loads(lines[-1])


if __name__ == '__main__':
  main()
