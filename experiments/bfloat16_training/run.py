"""Does the tiny codec learn as much in bfloat16 as in float32?

`python experiments/bfloat16_training/run.py --source=KIND:DIR --out=DIR`

Two trainings from one seed, which differ in the type that they compute in.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

STEPS = 600
EVALUATE_EVERY = 100
LAST = 3  # evaluations that are averaged
METRICS = ('eval_log_mel_distance', 'eval_si_sdr')


def main() -> None:
  """Trains twice and prints the held-out metrics."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--source', required=True)
  flags.add_argument('--out', required=True, type=Path)
  flags.add_argument('--seed', type=int, default=0)
  given = flags.parse_args()
  found = {
    dtype: train(given.out / dtype, dtype, given.source, given.seed)
    for dtype in ('float32', 'bfloat16')
  }
  for metric in METRICS:
    means = {}
    for dtype, rows in found.items():
      values = [row[metric] for row in rows]
      means[dtype] = sum(values[-LAST:]) / LAST
      print(dtype, metric, *(f'{value:.4f}' for value in values))
    ratio = means['bfloat16'] / means['float32']
    print(f'{metric}: last {LAST} in bfloat16, {ratio:.4f} of float32')


def train(workdir: Path, dtype: str, source: str, seed: int) -> list[dict]:
  """Trains the codec and returns the rows of its evaluations."""
  changes = {
    'seed': seed,
    'model.dtype': dtype,
    'discriminators.dtype': dtype,
    'schedule.total_steps': STEPS,
    'schedule.eval_every': EVALUATE_EVERY,
    'data.source': source,
  }
  subprocess.run(
    [
      *(sys.executable, '-m', 'musiclm_jax.train'),
      '--config=soundstream:tiny',
      f'--workdir={workdir}',
      *(f'--config.{key}={value}' for key, value in changes.items()),
    ],
    check=True,
  )
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  rows = map(json.loads, lines)
  return [row for row in rows if METRICS[0] in row]


if __name__ == '__main__':
  main()
