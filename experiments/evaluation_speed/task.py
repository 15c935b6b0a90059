"""What both sides do: answer each line of stdin with a call's seconds.

Both stay alive, so that a round is one call of each side and what else the
machine does weighs on both.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

ROWS, WIDTHS = 10_000, (128, 512)  # of VGGish, and of CLAP
MINUTES = 10
VGGISH_RATE, CODEC_RATE = 16_000, 24_000
# A log-mel as a codec is measured by, of librosa's centred-free definition.
MEL = {'window_length': 1024, 'hop_length': 256, 'fft_size': 1024}
NUM_MELS, LOW_HZ, HIGH_HZ, FLOOR = 64, 0.0, 12_000.0, 1e-5


def embeddings(width: int) -> tuple[np.ndarray, np.ndarray]:
  """Two sets of correlated rows that differ, float32 [ROWS, width]."""
  rng = np.random.default_rng(width)
  mix = rng.normal(size=(width, width)) / np.sqrt(width)
  reference = rng.normal(size=(ROWS, width)) @ mix
  generated = 1.2 * rng.normal(size=(ROWS, width)) @ mix + 0.3
  return reference.astype(np.float32), generated.astype(np.float32)


def noise(sample_rate: int) -> np.ndarray:
  """Ten minutes of it, float32 [S]; speed does not depend on the signal."""
  rng = np.random.default_rng(0)
  size = sample_rate * MINUTES * 60
  return 0.1 * rng.standard_normal(size, dtype=np.float32)


def serve(about: Mapping, calls: Mapping[str, Callable[[], object]]) -> None:
  """Prints `about`, then runs the calls that come in, until the end of file.

  The first line out has also the names of the calls and what they give: a
  number, or the mean of an array.
  """
  results = {name: float(np.mean(call())) for name, call in calls.items()}
  print(json.dumps({**about, 'results': results}), flush=True)
  for line in sys.stdin:
    call, cpu, start = calls[line.strip()], _cpu(), time.perf_counter()
    call()
    wall = time.perf_counter() - start
    print(json.dumps({'wall': wall, 'cpu': _cpu() - cpu}), flush=True)


def _cpu() -> float:
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime
