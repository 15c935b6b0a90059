"""A side of the comparison: a process that makes a training step on demand."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent


def serve(about: Mapping, step: Callable[[], object], warm_ups: int) -> None:
  """Warms up, prints `about`, then answers each line of stdin with a step.

  Args:
    about: What the side is: unit, units a step, versions, shapes.
    step: Returns when all is computed.
    warm_ups: Steps that compile and allocate.
  """
  for _ in range(warm_ups):
    step()
  print(json.dumps(about), flush=True)
  for _ in sys.stdin:
    cpu, start = _cpu(), time.perf_counter()
    step()
    wall = time.perf_counter() - start
    print(json.dumps({'wall': wall, 'cpu': _cpu() - cpu}), flush=True)


class Side:
  """The other end: starts a script and asks it for steps."""

  def __init__(
    self,
    python: str,
    script: str,
    arguments: list[str],
    cores: int,
    package: Path,
  ):
    """Starts it; it warms up while others do.

    Args:
      python: The interpreter.
      script: Beside this file, or the path of another one.
      arguments: Of the script.
      cores: That it may use.
      package: Folder of the package that it imports.
    """
    chosen = sorted(os.sched_getaffinity(0))[-cores:]
    # All get huge pages, as `make` sets them.
    own = {
      'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
      'JAX_PLATFORMS': 'cpu',
      'BENCH_THREADS': str(len(chosen)),
      'PYTHONDONTWRITEBYTECODE': '1',
      'PYTHONPATH': str(package),
    }
    binding = ['taskset', '-c', ','.join(map(str, chosen))]
    self._process = subprocess.Popen(
      [*binding, python, HERE / script, *arguments],
      env={**os.environ, **own},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def answer(self) -> dict:
    """Waits for the next line that is meant for us."""
    for line in self._process.stdout:
      if line.startswith('{'):
        return json.loads(line)
    raise SystemExit('error: a side has ended; its message is above')

  def step(self) -> dict:
    """Seconds of one step."""
    self._process.stdin.write('step\n')
    self._process.stdin.flush()
    return self.answer()

  def end(self) -> None:
    """Closes its input, which ends it."""
    self._process.stdin.close()
    self._process.wait()


def _cpu() -> float:
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime
