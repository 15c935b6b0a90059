"""Runs every PyTorch twin again and compares with the committed fixtures.

`make parity` calls it in an environment that has PyTorch and no JAX; the tests
named `parity` then compare our networks with those fixtures.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
FIXTURES = HERE.parents[1] / 'tests' / 'fixtures'
TOLERANCE = 1e-5  # PyTorch's own rounding from machine to machine


def largest_difference(ours: Path, theirs: Path) -> float:
  """Largest absolute difference over all float arrays of two fixtures."""
  with np.load(ours) as a, np.load(theirs) as b:
    if set(a.files) != set(b.files):
      raise SystemExit(f'error: {ours.name} holds other arrays: make it again')
    return max(
      float(np.abs(a[name] - b[name]).max(initial=0.0))
      for name in a.files
      if np.issubdtype(a[name].dtype, np.floating)
    )


def main() -> None:
  """Prints one line a twin; exits with 1 if one has moved."""
  moved = 0
  for script in sorted(HERE.glob('*.py')):
    if script.name in ('run.py', 'table.py'):
      continue
    with tempfile.TemporaryDirectory() as folder:
      fresh = Path(folder) / f'{script.stem}.npz'
      subprocess.run([sys.executable, str(script), str(fresh)], check=True)
      difference = largest_difference(FIXTURES / fresh.name, fresh)
    moved += difference > TOLERANCE
    print(f'{script.stem:12} max |fixture - twin| = {difference:.1e}')
  if moved:
    raise SystemExit(f'error: {moved} fixtures differ by more than {TOLERANCE}')


if __name__ == '__main__':
  main()
