"""Profiles training steps on an accelerator: how near to what it can do?

  python experiments/accelerator_speed/run.py [--minutes=8] [--only=WORD,...]

Steps of all ten networks, as the train loop compiles them, on the devices that
jax finds. All cases of `cases.py` are compiled at once, a process each, then
measured one after another until the minutes are over; what is not compiled
after `--patience` seconds is left out. Each becomes a dated row of
results.jsonl at once. Values are drawn; the speed does not depend on them.
"""

import argparse
import datetime
import json
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
from cases import CASES, Case
from kernels import kernel_times

from musiclm_jax.rehearsal.rehearsal import begin, plan
from musiclm_jax.training.assembly import Training
from musiclm_jax.training.speed import chip_of, scale_of

HERE = Path(__file__).parent
_TOP = 12  # kernels that are named


def serve(case: Case, steps: int) -> None:
  """Compiles a step, says so, waits for its turn, and prints its row."""
  start = time.perf_counter()
  training = plan(case.config(), jax.devices())
  step = training.step(training.task)
  lowered = step.lower(training.state, training.batch)
  traced = time.perf_counter()
  compiled = lowered.compile()
  times = {
    'trace_seconds': round(traced - start, 1),
    'compile_seconds': round(time.perf_counter() - traced, 1),
  }
  print(json.dumps(times), flush=True)
  sys.stdin.readline()
  print(
    json.dumps(measure(case, training, compiled, steps) | times), flush=True
  )


def measure(
  case: Case, training: Training, compiled: Any, steps: int
) -> dict[str, Any]:
  """Times the steps of one case; a row."""
  device = jax.devices()[0]
  state, batch = begin(training)

  def step() -> None:
    nonlocal state
    state, _ = jax.block_until_ready(compiled(state, batch))

  for _ in range(3):  # a codec's or a fit's first step is another one
    step()
  # Back to back, as the loop has them: the next is on its way already.
  start = time.perf_counter()
  for _ in range(steps):
    state, _ = compiled(state, batch)
  jax.block_until_ready(state)
  seconds = (time.perf_counter() - start) / steps
  scale = scale_of(training.task, training.state, batch)
  chip, kernels = chip_of(device), kernel_times(step)
  moved = (compiled.cost_analysis() or {}).get('bytes accessed', 0.0)
  memory = device.memory_stats() or {}
  top = sorted(kernels.named.items(), key=lambda item: -item[1])[:_TOP]
  return {
    'case': case.name,
    'date': datetime.date.today().isoformat(),
    'device': device.device_kind,
    'jax': jax.__version__,
    'batch': len(next(iter(batch.values()))),
    'step_seconds': round(seconds, 6),
    'unit': scale.unit,
    'units_a_second': round(scale.amount / seconds, 1),
    'mfu': scale.peak_share and round(scale.peak_share / seconds, 4),
    'bytes': moved,
    'bandwidth_share': chip and round(moved / seconds / chip.hbm_bandwidth, 4),
    'peak_bytes': memory.get('peak_bytes_in_use'),
    'kernels': kernels.count,
    'kernel_seconds': round(kernels.total, 6),
    'kernel_shares': kernels.shares(),
    'top': {name: round(second, 6) for name, second in top},
  }


def table(row: dict[str, Any]) -> str:
  """A row in a line, and its longest kernels."""
  mfu, share = row['mfu'] or 0.0, row['bandwidth_share'] or 0.0
  line = (
    f'{row["case"]:28s} {1e3 * row["step_seconds"]:8.2f} ms '
    f'{row["units_a_second"]:12,.0f} {row["unit"]}/s  MFU {100 * mfu:5.1f} %  '
    f'memory {100 * share:5.1f} %  {row["kernels"]} kernels '
    f'{1e3 * row["kernel_seconds"]:.2f} ms  compiled '
    f'{row["trace_seconds"]:.0f} + {row["compile_seconds"]:.0f} s  '
    f'{(row["peak_bytes"] or 0) / 1e9:.1f} GB'
  )
  kinds = ', '.join(
    f'{k} {100 * v:.0f}' for k, v in row['kernel_shares'].items()
  )
  top = '; '.join(f'{n[:40]} {1e3 * s:.2f}' for n, s in row['top'].items())
  return f'{line}\n    {kinds}\n    {top}'


class Worker:
  """A process that compiles one case at once and measures it when told."""

  def __init__(self, case: Case, steps: int):
    command = [sys.executable, __file__, f'--serve={case.name}']
    self._process = subprocess.Popen(
      [*command, f'--steps={steps}'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.name = case.name

  def wait(self, seconds: float) -> bool:
    """Waits until it has compiled; False if it could not in that time."""
    found, _, _ = select.select([self._process.stdout], [], [], seconds)
    line = self._process.stdout.readline() if found else ''
    print(f'{self.name}: {line.strip() or "not compiled"}', flush=True)
    if not line:
      self.stop()
    return bool(line)

  def measure(self) -> dict[str, Any] | None:
    """Returns the row; None if it failed."""
    out, _ = self._process.communicate('go\n')
    return json.loads(out.splitlines()[-1]) if out else None

  def stop(self) -> None:
    """Ends the process."""
    self._process.kill()


def main() -> None:
  """Compiles all cases side by side, then measures one after another."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--minutes', type=float, default=60.0)
  parser.add_argument('--only', default='', help='words of cases')
  parser.add_argument('--steps', type=int, default=20)
  parser.add_argument('--patience', type=float, default=600.0)
  parser.add_argument('--serve', default='', help='one case, for ourselves')
  parser.add_argument('--results', type=Path, default=HERE / 'results.jsonl')
  options = parser.parse_args()
  if options.serve:
    (case,) = (case for case in CASES if case.name == options.serve)
    serve(case, options.steps)
    return
  end = time.monotonic() + 60 * options.minutes
  words = options.only.split(',')
  chosen = [c for c in CASES if any(word in c.name for word in words)]
  workers = [Worker(case, options.steps) for case in chosen]
  patience = time.monotonic() + options.patience
  ready = [
    worker
    for worker in workers
    if worker.wait(max(1.0, patience - time.monotonic()))
  ]
  for worker in ready:
    if time.monotonic() > end:
      print(f'{worker.name}: no time left')
      worker.stop()
    elif row := worker.measure():
      print(table(row), flush=True)
      with open(options.results, 'a') as file:
        file.write(json.dumps(row) + '\n')


if __name__ == '__main__':
  main()
