"""Times FAD and log-mels against the published tools, call by call in turns.

`python experiments/evaluation_speed/run.py --peers=PYTHON [--rounds=7]`

PYTHON is of an environment with requirements.txt. A round is one call of ours
and of each peer; a ratio is the median over rounds of a peer's seconds of CPU,
or on the clock, by ours. Writes results.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


class Side:
  """A process that answers calls with their seconds."""

  def __init__(self, python: str, script: str):
    """Starts it and waits until all calls have run once."""
    self._process = subprocess.Popen(
      [python, str(HERE / script)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.about = self._line()

  def call(self, name: str) -> dict[str, float]:
    """Runs a call and returns its seconds, `wall` and `cpu`."""
    self._process.stdin.write(f'{name}\n')
    self._process.stdin.flush()
    return self._line()

  def _line(self) -> dict:
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit('error: a side has ended: see above')
    return json.loads(line)

  def end(self) -> None:
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait()


def main() -> None:
  """Measures in turns, writes and prints the ratios."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--peers', required=True, help="the peers' Python")
  parser.add_argument('--rounds', type=int, default=7)
  given = parser.parse_args()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  # NumPy's, of both sides: on a busy machine more threads wait for each other.
  os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
  ours, peers = Side(sys.executable, 'ours.py'), Side(given.peers, 'peers.py')
  seconds: dict[str, list[dict[str, float]]] = {}
  for _ in range(given.rounds):
    for name in ours.about['results']:
      seconds.setdefault(name, []).append(ours.call(name))
      for rival in peers.about['results']:
        if rival.startswith(f'{name},'):
          seconds.setdefault(rival, []).append(peers.call(rival))
  for side in (ours, peers):
    side.end()
  ratios = {}
  for rival in peers.about['results']:
    own = seconds[rival.partition(',')[0]]
    ratios[rival] = {
      kind: statistics.median(
        theirs[kind] / mine[kind]
        for theirs, mine in zip(seconds[rival], own, strict=True)
      )
      for kind in ('cpu', 'wall')
    }
  result = {
    'date': time.strftime('%Y-%m-%d'),
    'cores': os.cpu_count(),
    'load': os.getloadavg(),
    'ours': ours.about,
    'peers': peers.about,
    'median_seconds': {
      name: {
        kind: statistics.median(one[kind] for one in found)
        for kind in ('cpu', 'wall')
      }
      for name, found in seconds.items()
    },
    'times_ours': ratios,
  }
  (HERE / 'results.json').write_text(json.dumps(result, indent=1) + '\n')
  for rival, ratio in ratios.items():
    print(f'{ratio["cpu"]:8.2f} {ratio["wall"]:8.2f}  {rival}')


if __name__ == '__main__':
  main()
