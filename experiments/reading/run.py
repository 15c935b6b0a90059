"""Times how fast random crops are read, with and without our malloc settings.

`python experiments/reading/run.py CORPUS`, CORPUS being a folder that
`musiclm_jax.prepare` has made. Each run is a process of its own; they take
turns, and the ratio of the medians counts.
"""

import importlib.metadata
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time

_ROUNDS = 3
_THREADS, _CROPS = 4, 40
_SECONDS = 10


def _read(corpus: str) -> None:
  """Prints milliseconds of CPU per crop and the peak memory in MB."""
  import numpy as np

  from musiclm_jax.data.sources import open_source

  source = open_source(f'prepared:{corpus}', 'train')
  source.read(0, 0, 1)

  def work(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(_CROPS):
      piece = int(rng.integers(len(source)))
      source.read(piece, 0, _SECONDS * source.sample_rate)

  threads = [threading.Thread(target=work, args=(k,)) for k in range(_THREADS)]
  begun = time.process_time()
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  spent = 1e3 * (time.process_time() - begun) / (_THREADS * _CROPS)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
  print(spent, peak)


def main(corpus: str) -> None:
  """Compares both, alternating."""
  found: dict[str, list[tuple[float, float]]] = {'default': [], 'ours': []}
  for _ in range(_ROUNDS):
    for name, rows in found.items():
      done = subprocess.run(
        [sys.executable, __file__, corpus, name],
        capture_output=True,
        text=True,
        check=True,
      )
      rows.append(tuple(map(float, done.stdout.split())))
  versions = ', '.join(
    f'{name} {importlib.metadata.version(name)}'
    for name in ('array_record', 'tensorflow-datasets', 'numpy')
  )
  print(f'Python {platform.python_version()}, {versions}')
  medians = {}
  for name, rows in found.items():
    spent, peak = (statistics.median(c) for c in zip(*rows, strict=True))
    medians[name] = spent
    print(f'{name:<8} {spent:6.2f} ms of CPU a crop, peak {peak:.0f} MB')
  print(f'ratio {medians["default"] / medians["ours"]:.2f}')


if __name__ == '__main__':
  if len(sys.argv) == 3:
    if sys.argv[2] == 'ours':
      from musiclm_jax.launch import environment

      environment.keep_freed_memory()
    _read(sys.argv[1])
  elif len(sys.argv) == 2:
    main(sys.argv[1])
  else:
    sys.exit(f'usage: {sys.argv[0]} CORPUS')
