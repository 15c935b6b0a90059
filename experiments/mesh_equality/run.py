"""Trains every network three steps on several meshes and compares with one.

`python experiments/mesh_equality/run.py [--stages=a,b] [--layouts=2x1x1,…]
[--out=FILE.json]`; a layout is data x fsdp x tensor. Ends with 1 and names
what differs if a loss or a gradient norm is off by more than 1e-5.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

# Before jax starts: eight devices, whatever the machine has.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = (
  f'{os.environ.get("XLA_FLAGS", "--xla_backend_optimization_level=0")} '
  '--xla_force_host_platform_device_count=8'
)

# The networks are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[2] / 'tests'))

import jax
import numpy as np
import ten_networks

from musiclm_jax import stages
from musiclm_jax.contracts import sharding
from musiclm_jax.training import state as states
from musiclm_jax.training.optimizer import make_optimizers
from musiclm_jax.training.step import compile_step

STEPS, LIMIT = 3, 1e-5
LAYOUTS = (
  *('2x1x1', '4x1x1', '8x1x1'),  # data parallel
  *('1x2x1', '1x4x1', '1x8x1'),  # FSDP
  *('1x1x2', '1x1x4', '1x1x8'),  # tensor parallel
  *('2x2x1', '2x1x2', '1x2x2', '2x2x2'),
)


def play(stage: str, layout: str) -> dict[str, list[float]]:
  """Trains a network on one mesh; returns losses and gradient norms."""
  data, fsdp, tensor = map(int, layout.split('x'))
  devices = jax.devices()[: data * fsdp * tensor]
  mesh = sharding.make_mesh(fsdp=fsdp, tensor=tensor, devices=devices)
  config = ten_networks.small_config(stage, STEPS)
  task = stages.build(config)
  players = make_optimizers(
    config.optimizer.to_dict(), players=task.losses(), total_steps=STEPS
  )
  rows = [ten_networks.batch(config, step) for step in range(STEPS)]
  rows = [sharding.put_batch(batch, mesh) for batch in rows]
  kwargs = {'seed': 0, 'with_ema': False}
  abstract = states.abstract_state(task, players, rows[0], mesh, **kwargs)
  state = states.create_state(task, players, rows[0], mesh, **kwargs)
  step = compile_step(task, players, abstract)
  found: dict[str, list[float]] = {}
  for batch in rows:
    state, metrics = step(state, batch)
    for name, value in metrics.items():
      if name.startswith(('loss', 'grad_norm')):
        found.setdefault(name, []).append(float(value))
  return found


def difference(found: dict, wanted: dict) -> float:
  """Largest relative difference of all numbers; NaN counts as infinite."""
  pairs = [np.array([found[n], wanted[n]], np.float64) for n in wanted]
  gaps = [abs(a - b) / np.maximum(abs(b), 1e-30) for a, b in pairs]
  return max(np.inf if np.isnan(gap).any() else gap.max() for gap in gaps)


def main() -> None:
  """Compares and reports."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--stages', default=','.join(stages.STAGES))
  parser.add_argument('--layouts', default=','.join(LAYOUTS))
  parser.add_argument('--out')
  options = parser.parse_args()
  results: dict[str, dict] = {}
  for stage in options.stages.split(','):
    wanted = play(stage, '1x1x1')
    results[stage] = {'one device': wanted, 'largest difference': {}}
    for layout in options.layouts.split(','):
      began = time.monotonic()
      gap = difference(play(stage, layout), wanted)
      results[stage]['largest difference'][layout] = gap
      seconds = time.monotonic() - began
      print(f'{stage} {layout} {gap:.1e} ({seconds:.1f} s)', flush=True)
    if options.out:
      Path(options.out).write_text(json.dumps(results, indent=1) + '\n')
  far = [
    f'{stage} on {layout}: {gap:.1e}'
    for stage, result in results.items()
    for layout, gap in result['largest difference'].items()
    if not gap <= LIMIT
  ]
  if far:
    sys.exit('differ from one device: ' + '; '.join(far))


if __name__ == '__main__':
  main()
