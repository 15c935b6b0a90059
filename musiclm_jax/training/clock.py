"""The line a training shows: how far it is, how fast, how long it will take."""

import time
from collections.abc import Mapping

import jax

from musiclm_jax.contracts.array_types import PyTree


class Clock:
  """Says how fast it goes and how long it will take."""

  def __init__(self, done: int, total: int):
    """Starts before the step after `done` steps of `total`."""
    self._first, self._total = done + 1, total
    self._start = time.monotonic()

  def tick(self, step: int, metrics: PyTree) -> None:
    """Waits for the first step, which compiles; the clock begins after it."""
    if step == self._first:
      jax.block_until_ready(metrics)
      seconds = time.monotonic() - self._start
      print(f'first step, compiled, in {seconds:.1f} s', flush=True)
      self._start = time.monotonic()

  def line(self, step: int, metrics: Mapping[str, float]) -> str:
    """Returns one line: step, loss, held-out metrics, rate, time to go."""
    steps = step - self._first
    rate = steps / max(time.monotonic() - self._start, 1e-9)
    left = (self._total - step) / rate if rate else 0.0
    shown = [f'loss {metrics["loss"]:.4f}'] + [
      f'{k} {v:.4f}' for k, v in metrics.items() if k.startswith('eval_')
    ]
    minutes, seconds = divmod(round(left), 60)
    return (
      f'step {step}/{self._total}  {"  ".join(shown)}  '
      f'{rate:.2f} steps/s  ETA {minutes}:{seconds:02d}'
    )
