"""Times a training's step on CPU with and without huge pages for malloc.

python experiments/huge_pages/run.py [STAGE ...] --corpus=DIR --tokens=DIR

Both settings take turns on one core, so that a noisy machine disturbs both
alike. Prints a row a stage: steps a second of each, their ratio, page faults;
leaves results.json beside this file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from musiclm_jax.stages import LANGUAGE_MODELS

ROOT = Path(__file__).parents[2]
SETTINGS = {'4 kB': '', 'huge': 'glibc.malloc.hugetlb=1'}
STEPS, LOG_EVERY, ROUNDS = 30, 10, 2


def measure(stage: str, tunables: str, arguments, cache: str) -> tuple:
  """Steps a second as the training last reports them, and its page faults."""
  with tempfile.TemporaryDirectory() as folder:
    workdir = Path(folder) / 'run'
    command = [
      *(sys.executable, '-m', 'musiclm_jax.train'),
      f'--config=configs/{stage}.py:tiny',
      f'--workdir={workdir}',
      f'--config.schedule.total_steps={STEPS}',
      f'--config.schedule.log_every={LOG_EVERY}',
      f'--config.schedule.eval_every={10 * STEPS}',
      f'--config.schedule.save_every={10 * STEPS}',
      f'--tokens={arguments.tokens}'
      if stage in LANGUAGE_MODELS
      else f'--config.data.source=prepared:{arguments.corpus}',
    ]
    environment = {**os.environ, 'JAX_COMPILATION_CACHE_DIR': cache}
    environment.pop('GLIBC_TUNABLES', None)
    if tunables:
      environment['GLIBC_TUNABLES'] = tunables
    process = subprocess.Popen(
      command,
      cwd=ROOT,
      env=environment,
      stdout=subprocess.PIPE,
      text=True,
    )
    os.sched_setaffinity(process.pid, {min(os.sched_getaffinity(0))})
    log = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
      raise SystemExit(f'{stage} ended with status {status}:\n{log}')
  rates = [
    float(line.split(' steps/s')[0].split()[-1])
    for line in log.splitlines()
    if ' steps/s' in line
  ]
  return rates[-1], usage.ru_minflt


def main() -> None:
  """Measures and prints the table, and writes results.json beside it."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('stages', nargs='*', default=['soundstream', 'coarse'])
  parser.add_argument('--corpus', default='runs/cascade/corpus')
  parser.add_argument('--tokens', default='runs/cascade/tokens')
  arguments = parser.parse_args()
  arguments.corpus = Path(arguments.corpus).absolute()
  arguments.tokens = Path(arguments.tokens).absolute()
  results = {}
  with tempfile.TemporaryDirectory() as cache:
    for stage in arguments.stages:
      found = {name: [] for name in SETTINGS}
      measure(stage, '', arguments, cache)  # fills the compilation cache
      for _ in range(ROUNDS):
        for name, tunables in SETTINGS.items():
          found[name].append(measure(stage, tunables, arguments, cache))
      rates = {
        n: round(statistics.median(r for r, _ in f), 3)
        for n, f in found.items()
      }
      faults = {n: min(f for _, f in v) for n, v in found.items()}
      results[stage] = {'steps_per_second': rates, 'faults_a_run': faults}
      ratio = rates['huge'] / rates['4 kB']
      print(f'{stage}: {rates}, x {ratio:.2f}, faults {faults}', flush=True)
  path = Path(__file__).with_name('results.json')
  path.write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
  main()
