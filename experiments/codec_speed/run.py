"""Compares the speed of our codec with that of EnCodec, FLOP for FLOP.

  python experiments/codec_speed/run.py --peers=PYTHON [--threads=2]

PYTHON is that of an environment with `requirements.txt` beside this file.
Both sides live side by side and take turns; medians count. Leaves a row a
direction in results.json, one entry a number of threads.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from musiclm_jax.contracts import atomic_file

HERE = Path(__file__).parent
SIDES = 'ours', 'encodec'
CLOCKS = 'wall', 'cpu'


class _Worker:
  """A process that makes calls on demand."""

  def __init__(self, python: str, script: str, threads: int):
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    # Both get huge pages, as `make` sets them.
    own = {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1', 'JAX_PLATFORMS': 'cpu'}
    self._process = subprocess.Popen(
      ['taskset', '-c', ','.join(map(str, cores)), python, HERE / script],
      env={**os.environ, **own},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.about = self._answer()

  def call(self, name: str) -> dict:
    """Seconds of one call."""
    self._process.stdin.write(f'{name}\n')
    self._process.stdin.flush()
    return self._answer()

  def end(self) -> None:
    """Closes its input, which ends it."""
    self._process.stdin.close()
    self._process.wait()

  def _answer(self) -> dict:
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit('error: a side has ended; its message is above')
    return json.loads(line)


def compare(peers: str, threads: int, rounds: int) -> dict:
  """Times both sides in turns; FLOPs a second and their ratios."""
  workers = {
    'ours': _Worker(sys.executable, 'ours.py', threads),
    'encodec': _Worker(peers, 'peers.py', threads),
  }
  about = {side: worker.about for side, worker in workers.items()}
  result = {'rounds': rounds, 'about': about}
  for name in ('encode', 'decode'):
    times = {side: [] for side in SIDES}
    for _ in range(rounds):
      for side, worker in workers.items():
        times[side].append(worker.call(name))
    row = {}
    for clock in CLOCKS:
      medians = {
        side: statistics.median(t[clock] for t in times[side]) for side in SIDES
      }
      row[clock] = {side: round(m, 4) for side, m in medians.items()}
      for count in ('flops', 'counter'):
        rates = [about[s][count][name] / medians[s] / 1e9 for s in SIDES]
        row[clock][f'ratio by {count}'] = round(rates[0] / rates[1], 3)
        row[clock][f'gflops by {count}'] = [round(rate, 1) for rate in rates]
    result[name] = row
    print(threads, name, json.dumps(row), flush=True)
  for worker in workers.values():
    worker.end()
  return result


def main() -> None:
  """Compares at a number of threads and adds to results.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--peers', required=True, help='Python of the peers.')
  parser.add_argument('--threads', type=int, default=2)
  parser.add_argument('--rounds', type=int, default=9)
  options = parser.parse_args()
  path = HERE / 'results.json'
  results = json.loads(path.read_text()) if path.exists() else {}
  results[f'{options.threads} threads'] = compare(
    options.peers, options.threads, options.rounds
  )
  atomic_file.write_text(path, json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
  main()
