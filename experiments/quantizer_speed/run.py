"""Compares our quantizer and k-means with those of PyTorch and faiss.

  python experiments/quantizer_speed/run.py --peers=PYTHON

PYTHON is that of an environment with `requirements.txt` beside this file. Both
sides run turn by turn, each in a process of its own, so that what else the
machine does weighs on both; a ratio is that of the medians.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# What, our variant, the peers' variant, who that is.
PAIRS = (
  ('RVQ codes', 'rvq_eval', 'plain', 'plain PyTorch'),
  ('RVQ codes', 'rvq_eval', 'rvq_eval', 'vector-quantize-pytorch'),
  ('RVQ training', 'rvq_train', 'rvq_train', 'vector-quantize-pytorch'),
  ('k-means', 'kmeans', 'kmeans', 'faiss'),
)


def _run(python: str, script: str, variant: str) -> dict:
  done = subprocess.run(
    [python, str(HERE / script), variant],
    check=True,
    capture_output=True,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
  """Prints a row a pair and writes results.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--peers', required=True, help='Python of the peers.')
  parser.add_argument('--rounds', type=int, default=3)
  options = parser.parse_args()
  results = []
  for name, ours, theirs, peer in PAIRS:
    pairs = [
      (
        _run(sys.executable, 'ours.py', ours),
        _run(options.peers, 'peers.py', theirs),
      )
      for _ in range(options.rounds)
    ]
    seconds = [
      statistics.median(p[side]['seconds'] for p in pairs) for side in (0, 1)
    ]
    ratio = seconds[1] / seconds[0]
    results.append({'what': name, 'peer': peer, 'speed': ratio, 'runs': pairs})
    print(
      f'{name:13} {seconds[0]:8.3f} s  {peer:24} {seconds[1]:8.3f} s  '
      f'{ratio:.2f} x',
      flush=True,
    )
  (HERE / 'results.json').write_text(json.dumps(results, indent=1) + '\n')


if __name__ == '__main__':
  main()
