"""All that sees a training and changes nothing of it.

Progress line, record, profile, clock and warnings, each warning once. Only
the first process prints and writes.
"""

import collections
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

from musiclm_jax.contracts import terminal
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import Audible, Task
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.training import watchdog
from musiclm_jax.training.clock import Clock
from musiclm_jax.training.compilations import (
  Compilations,
  describe,
  differences,
)
from musiclm_jax.training.detectors import Alarms, slow_input
from musiclm_jax.training.report import Report, as_row
from musiclm_jax.training.speed import outlook_of, scale_of
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.trace_window import Tracer, Window

_SPEEDS = 64  # looked at for a slow input


class Observer:
  """Sees one training from its first step here to its last."""

  def __init__(
    self,
    task: Task,
    state: TrainState,
    batch: PyTree,
    total_steps: int,
    *,
    workdir: Path,
    done: int,
    clock: Clock,
    window: Window | None = None,
  ):
    """Opens the record.

    Args:
      task: The game.
      state: Of it, described, with shardings.
      batch: A global one; only shapes matter.
      total_steps: Of the training.
      workdir: Of the training.
      done: Steps that the state has done.
      clock: Which may have run for some time.
      window: Steps to profile.
    """
    leads = jax.process_index() == 0
    outlook = outlook_of(task, batch)
    self._report = Report(workdir, done) if leads else None
    rows = self._report.rows if self._report else ()
    self._alarms = Alarms(outlook.signs, total_steps, rows)
    self._described, self._game = (state, batch), None
    self._clock, self._total = clock, total_steps
    self._speeds: collections.deque = collections.deque(maxlen=_SPEEDS)
    self._sample_rate = task.sample_rate if isinstance(task, Audible) else 0
    self._tracer = Tracer(window if leads else None, workdir)
    if done:
      self.say(f'continuing {workdir} after step {done}')
    self._watchdog = watchdog.Watchdog(
      self._say_stalled, watchdog.PATIENCE_SECONDS
    )
    self._compilations = Compilations()
    self._arguments: Mapping[str, tuple] | None = None
    self._step, self._warned = done, set()

  def __enter__(self) -> 'Observer':
    with contextlib.ExitStack() as opened:
      for part in (
        self._report,
        self._tracer,
        self._watchdog,
        self._compilations,
      ):
        if part is not None:
          opened.enter_context(part)
      self._opened = opened.pop_all()
    return self

  def __exit__(self, *_: object) -> None:
    self._opened.close()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Watches over a wait for data."""
    with self._watchdog.watching(), self._clock.waiting():
      yield

  def run(
    self, game: Task, step: Callable, state: TrainState, batch: PyTree
  ) -> tuple[TrainState, Mapping[str, jax.Array]]:
    """Runs a step; the first one of a phase, which compiles, is waited for.

    Args:
      game: The task in its phase.
      step: Of the game.
      state: Before the step.
      batch: Of the step.
    """
    self._step += 1
    self._tracer.before(self._step)
    compiled = self._compilations.of(step)
    arguments = {'batch': batch, 'state': state}
    if self._game != game:
      self._arguments = describe(arguments)
      outcome = self._begin(game, step, state, batch)
    else:
      outcome = step(state, batch)
      if self._compilations.of(step) > compiled:
        self.warn(
          'compiled again',
          f'step {self._step} compiled the program again: '
          f'{differences(self._arguments, describe(arguments))}; every new '
          'shape costs as much as the first step',
        )
    self._tracer.after(self._step, outcome)
    return outcome

  def _begin(
    self, game: Task, step: Callable, state: TrainState, batch: PyTree
  ) -> tuple[TrainState, Mapping[str, jax.Array]]:
    """Runs the first step of a phase."""
    which = f'step {self._step} begins a phase' if self._game else 'first step'
    self.say(f'{which}: compiling it for {jax.device_count()} devices')
    before = self._clock.lost.get('compile', 0.0)
    with self._clock.spending('compile'):
      outcome = jax.block_until_ready(step(state, batch))
    if self._game is None:
      self._clock.begin(self._step)
    seconds = self._clock.lost['compile'] - before
    self.say(f'step {self._step}, compiled, in {seconds:.1f} s')
    self._game = game
    outlook = outlook_of(game, self._described[1])
    self._scale = scale_of(game, outlook, *self._described)
    return outcome

  def spending(self, what: str) -> contextlib.AbstractContextManager[None]:
    """Books the time of a block as `what`, which is no step."""
    return self._clock.spending(what)

  def read(self, metrics: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Waits for the newest step's metrics, and takes the time of it."""
    with self._clock.timing_step():
      return jax.device_get(metrics)

  def log(
    self, metrics: Mapping[str, float], samples: Mapping[str, np.ndarray]
  ) -> None:
    """Records and prints the newest step."""
    if self._report is None:
      return
    row = as_row(self._step, metrics)
    alarms = self._alarms.hear(row)
    self._report.write(row, list(alarms))
    self._report.write_samples(self._step, samples, self._sample_rate)
    speed = self._scale.speed(self._clock.pace(self._step, self._total))
    self._report.write_speed(self._step, speed)
    self.say(self._scale.line(self._step, self._total, metrics, speed))
    for cause, line in alarms.items():
      self.warn(cause, line)
    self._speeds.append(speed)
    if line := slow_input(self._speeds):
      self.warn('slow input', line)

  def warn(self, cause: str, line: str) -> None:
    """Prints a line and puts it beside the curves, once a cause."""
    if self._report is None or cause in self._warned:
      return
    self._warned.add(cause)
    self.say(f'warning: {line}')
    self._report.write_warning(self._step, cause, line)

  def say(self, line: str) -> None:
    """Prints a line.

    Where nobody reads any more, such as after `head`, the run ends as after a
    SIGTERM: what it has learned is saved.
    """
    if self._report is None:
      return
    try:
      print(printable(line), flush=True)
    except BrokenPipeError:
      terminal.let_go()
      os.kill(os.getpid(), signal.SIGTERM)

  def _say_stalled(self, seconds: float) -> None:
    self.say(
      f'warning: step {self._step + 1} has waited for its data for '
      f'{seconds:.0f} s: the input is stalled; look at the disk or the '
      'network that holds it'
    )
