"""What both sides do: answer each line of stdin with a call's seconds.

The first line out is the count of their FLOPs. Both stay alive, so that a
round is one call of each side and what else the machine does weighs on both.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

SAMPLE_RATE = 24_000
SECONDS = 10


def noise() -> np.ndarray:
  """Ten seconds of it, float32 [S]; speed does not depend on the signal."""
  rng = np.random.default_rng(0)
  size = SAMPLE_RATE * SECONDS
  return 0.1 * rng.standard_normal(size, dtype=np.float32)


def serve(about: Mapping, calls: Mapping[str, Callable[[], object]]) -> None:
  """Prints `about`, then runs the calls that come in, until the end of file."""
  for call in calls.values():  # compiles, allocates
    call()
  print(json.dumps(about), flush=True)
  for line in sys.stdin:
    call, cpu, start = calls[line.strip()], _cpu(), time.perf_counter()
    call()
    wall = time.perf_counter() - start
    print(json.dumps({'wall': wall, 'cpu': _cpu() - cpu}), flush=True)


def _cpu() -> float:
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime
