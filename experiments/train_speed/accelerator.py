"""Measures the semantic LM at paper size on an accelerator: MFU.

  python experiments/train_speed/accelerator.py [--batches=16,32,64]
    [--remats=none,elementwise] [--kernel=cudnn] [--unroll=24]

The step is that of `ours.py`, in bfloat16, on the devices that jax finds with
`jax[cuda12]` or `jax[tpu]`. Each batch size is tried until one does not fit;
the best one becomes a dated row of accelerator.json. MFU is the FLOPs that the
model needs (recomputation and masked pairs are none of them) over those that
the chips could have done in the time. Where the profiler names a GPU's
kernels, the row says what their time went to.
"""

import argparse
import collections
import datetime
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from ours import make_batch, make_training_step, read_config, work_of

from musiclm_jax import stages
from musiclm_jax.contracts import atomic_file
from musiclm_jax.training.hardware import chip_of
from musiclm_jax.training.model_flops import model_flops

HERE = Path(__file__).parent
# What a kernel's time went to, by what its name contains; the first one counts.
KINDS = {
  'attention': ('sdpa', 'fmha', 'matmul_dq', 'cudnn'),
  'products': ('nvjet', 'gemm', 'cutlass', 'cublas'),
  'copies': ('memcpy', 'memset', 'dynamic_update', 'dynamic_slice', 'concat'),
  'elementwise and sums': ('',),
}


def count_flops(config: ConfigDict) -> float:
  """FLOPs that a step of the whole batch needs."""
  task = stages.build(config)
  batch = make_batch(config)
  params, collections = jax.eval_shape(task.init, jax.random.key(0), batch)
  return model_flops(task, params, collections, batch)


def kernel_shares(step: Callable[[], float]) -> dict[str, float]:
  """Shares of `KINDS` in the time of a step's kernels; empty if unknown."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      step()
    (path,) = Path(folder).rglob('*.xplane.pb')
    spent = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
      if 'GPU' not in plane.name:
        continue
      for line in plane.lines:
        if not line.name.startswith('Stream'):
          continue
        for event in line.events:
          name = event.name.lower()
          kind = next(
            kind
            for kind, parts in KINDS.items()
            if any(part in name for part in parts)
          )
          spent[kind] += event.duration_ns
  return {kind: round(ns / spent.total(), 3) for kind, ns in spent.items()}


def measure(config: ConfigDict, steps: int) -> dict[str, Any]:
  """Times the steps of one batch size; one row."""
  device = jax.devices()[0]
  step = make_training_step(config)
  for _ in range(3):
    step()
  seconds = []
  for _ in range(steps):
    start = time.perf_counter()
    step()
    seconds.append(time.perf_counter() - start)
  middle = statistics.median(seconds)
  work, unit = work_of(config)
  chip, flops, count = chip_of(device), count_flops(config), len(jax.devices())
  return {
    'date': datetime.date.today().isoformat(),
    'device': device.device_kind,
    'devices': count,
    'jax': jax.__version__,
    'batch': config.data.batch_size,
    'remat': config.model.remat,
    'attention_kernel': config.model.attention_kernel,
    'scan_unroll': config.model.scan_unroll,
    'dropout_rate': config.model.dropout_rate,
    'seconds': middle,
    f'{unit}_a_second': work / middle,
    'model_tflops_a_step': flops / 1e12,
    'mfu': chip and flops / middle / chip.peak / count,
    'peak_bytes': (device.memory_stats() or {}).get('peak_bytes_in_use'),
    'kernel_shares': kernel_shares(step),
  }


def main() -> None:
  """Measures growing batches and writes the row of the best."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--batches', default='8,16,32,64,128')
  parser.add_argument('--remats', default='full', help='of REMATS')
  parser.add_argument('--kernel', default='blockwise', help='or cudnn')
  parser.add_argument('--unroll', type=int, default=1, help='layers')
  parser.add_argument('--steps', type=int, default=10)
  parser.add_argument('--size', default='paper')
  parser.add_argument('--results', type=Path, default=HERE / 'accelerator.json')
  options = parser.parse_args()
  if chip_of(jax.devices()[0]) is None:
    kind = jax.devices()[0].device_kind
    print(f'what {kind} can do is not known: no MFU, and no row is written')
  rows = []
  batches, remats = options.batches.split(','), options.remats.split(',')
  for remat, batch in itertools.product(remats, map(int, batches)):
    config = read_config('semantic', options.size)
    config.data.batch_size = batch
    config.model.update(
      remat=remat,
      attention_kernel=options.kernel,
      scan_unroll=options.unroll,
      dtype='bfloat16',
    )
    try:
      rows.append(measure(config, options.steps))
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      print(f'a batch of {batch} does not fit with remat={remat}', flush=True)
      continue
    print(json.dumps(rows[-1]), flush=True)
  measured = [row for row in rows if row['mfu']]
  if measured:
    path = options.results
    kept = json.loads(path.read_text()) if path.exists() else []
    kept.append(max(measured, key=lambda row: row['mfu']))
    atomic_file.write_text(path, json.dumps(kept, indent=1) + '\n')


if __name__ == '__main__':
  main()
