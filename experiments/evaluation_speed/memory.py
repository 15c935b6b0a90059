"""Peak memory of `evaluate --metrics=fad,kad` with few and with many clips.

`python experiments/evaluation_speed/memory.py --workdir=DIR`

Clips of 1 s are noise through a random low-pass, written once. Each evaluation
runs in a process of its own; its peak resident memory, and that of the
processes that decode for it, are what the system counts. Writes memory.json
beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
COUNTS = (100, 10_000)
ROOT = Path(__file__).parents[2]
# Of the children that this process has waited for there is one peak for all.
_COUNT = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, usage.ru_maxrss]))
"""


def write(folder: Path, count: int, seed: int) -> None:
  """Writes clips that are not there yet, in folders of 1,000."""
  for number in range(count):
    path = folder / f'{number // 1000:02}' / f'{number:05}.wav'
    if path.exists():
      continue
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, number])
    sound = rng.standard_normal(RATE)
    sound = np.convolve(sound, np.ones(rng.integers(1, 40)), 'same')
    sound *= rng.uniform(0.05, 0.5) / np.abs(sound).max()
    soundfile.write(path, sound, RATE)


def peak(reference: Path, generated: Path) -> dict[str, float]:
  """Evaluates in a new process; its peak in MB and its seconds."""
  begun = time.monotonic()
  done = subprocess.run(
    [
      *(sys.executable, '-c', _COUNT, sys.executable, '-m'),
      *('musiclm_jax.evaluate', f'--reference={reference}'),
      *(f'--generated={generated}', '--metrics=fad,kad'),
      f'--json={generated}.json',
    ],
    cwd=ROOT,
    env={'JAX_PLATFORMS': 'cpu', **os.environ},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  code, kilobytes = json.loads(done.stdout)
  if code:
    raise SystemExit(f'error: the evaluation ended with {code}')
  seconds = time.monotonic() - begun
  return {'peak_mb': kilobytes * 1024 / 1e6, 'seconds': seconds}


def main() -> None:
  """Measures each number of clips."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--counts', type=int, nargs='+', default=COUNTS)
  given = parser.parse_args()
  found = {}
  for count in given.counts:
    folders = [given.workdir / f'{side}_{count}' for side in ('real', 'made')]
    for seed, folder in enumerate(folders):
      write(folder, count, seed)
    found[count] = peak(*folders)
    print(count, found[count], flush=True)
  result = {
    'date': time.strftime('%Y-%m-%d'),
    'clips': found,
  }
  text = json.dumps(result, indent=1)
  Path(__file__).with_name('memory.json').write_text(text + '\n')


if __name__ == '__main__':
  main()
