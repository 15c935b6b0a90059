"""Observes a training without changing it.

Progress line, record, profile, clock and warnings, each warning once. Only
the first process prints and writes.
"""

import collections
import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from musiclm_jax.contracts import terminal
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain_file
from musiclm_jax.contracts.progress import Progress, ProgressCallback, ignore
from musiclm_jax.contracts.task import HasAudioSamples, Task
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.training.assembly import Training
from musiclm_jax.training.detectors import Alarms, slow_input
from musiclm_jax.training.report import Report, as_row
from musiclm_jax.training.speed import Clock, batch_info_of, scale_of
from musiclm_jax.training.state import TrainState, flatten

PATIENCE_SECONDS = 30.0
PROFILE = 'profile'
_SPEEDS = 64  # looked at for a slow input
_COMPILED = '/jax/core/compile/backend_compile_duration'  # an event of jax
_NAMED = 3  # of the arguments that differ


def profiled_steps(text: str, total_steps: int) -> range:
  """Reads which steps to profile, `FIRST:LAST`, counted from 1, both included.

  Raises:
    UsageError: If it is no such pair, or not one of this training.
  """
  match = re.fullmatch(r'(\d+):(\d+)', text.strip())
  first, last = map(int, match.groups()) if match else (0, 0)
  if not 1 <= first <= last <= total_steps:
    raise UsageError(
      f"--profile='{text}' is no range of steps: give FIRST:LAST with "
      f'1 <= FIRST <= LAST <= {total_steps}, such as 10:15'
    )
  return range(first, last + 1)


class Observer:
  """Sees one training from its first step here to its last."""

  def __init__(
    self,
    training: Training,
    total_steps: int,
    *,
    workdir: Path,
    done: int,
    clock: Clock,
    stage: str = '',
    profiled: range = range(0),
    progress: ProgressCallback = ignore,
  ):
    """Opens the record.

    Args:
      training: That is observed.
      total_steps: Of it.
      workdir: Of it.
      done: Steps that its state has done.
      clock: Which may have run for some time.
      stage: Its name in `progress`.
      profiled: Steps to profile.
      progress: Takes an event of every logged step.
    """
    leads = jax.process_index() == 0
    self._report = Report(workdir, done) if leads else None
    rows = self._report.rows if self._report else ()
    checks = batch_info_of(training.task, training.batch).health_checks
    self._alarms = Alarms(checks, total_steps, rows)
    self._training, self._phase = training, None
    self._clock, self._total = clock, total_steps
    self._stage, self._progress = stage, progress
    self._speeds: collections.deque = collections.deque(maxlen=_SPEEDS)
    task = training.task
    self._sample_rate = (
      task.sample_rate if isinstance(task, HasAudioSamples) else 0
    )
    self._profiled = profiled if leads else range(0)
    self._profile, self._tracing = Path(workdir) / PROFILE, False
    if done:
      self.say(f'continuing {workdir} after step {done}')
    self._watchdog = Watchdog(self._say_stalled, PATIENCE_SECONDS)
    self._compiled: collections.Counter[str] = collections.Counter()
    self._arguments: Mapping[str, tuple] = {}
    self._step, self._warned = done, set()

  def __enter__(self) -> 'Observer':
    with contextlib.ExitStack() as opened:
      if self._report is not None:
        opened.enter_context(self._report)
      opened.callback(self._end_trace)
      opened.enter_context(self._watchdog)
      jax.monitoring.register_event_duration_secs_listener(self._count)
      opened.callback(
        jax.monitoring.unregister_event_duration_listener, self._count
      )
      self._opened = opened.pop_all()
    return self

  def __exit__(self, *_: object) -> None:
    self._opened.close()

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """Watches over a wait for data."""
    with self._watchdog.watching(), self._clock.waiting():
      yield

  @contextlib.contextmanager
  def stepping(
    self, phase: Task, state: TrainState, batch: PyTree
  ) -> Iterator[bool]:
    """Watches over one step, which the block takes.

    Args:
      phase: The task in its phase.
      state: Before the step, which may donate it.
      batch: Of the step.

    Yields:
      Whether the block should wait for what the step makes: the first one of
      a phase compiles, which is timed, and the last one of a profile ends it.
    """
    self._step += 1
    if self._step in self._profiled and not self._tracing:
      jax.profiler.start_trace(str(plain_file(self._profile)))
      self._tracing = True
    traced = self._tracing and self._step == self._profiled[-1]
    begins = phase != self._phase
    name = f'jit({self._training.step(phase).__name__})'
    compiled = self._compiled[name]
    with self._beginning(phase) if begins else contextlib.nullcontext():
      yield begins or traced
    arguments = {'batch': batch, 'state': state}
    if begins:
      self._arguments = describe(arguments)
    elif self._compiled[name] > compiled:
      self.warn(
        'compiled again',
        f'step {self._step} compiled the program again: '
        f'{differences(self._arguments, describe(arguments))}; every new '
        'shape costs as much as the first step',
      )
    if traced:
      self._end_trace()
      self.say(f'profile of steps up to {self._step} in {self._profile}')

  def _count(
    self, event: str, duration: float, fun_name: str = '', **_: object
  ) -> None:
    """Counts how often jax compiled each function, for `jax.monitoring`."""
    self._compiled[fun_name] += event == _COMPILED

  def _end_trace(self) -> None:
    """Writes what the profiled steps did on host and device, if any runs."""
    if self._tracing:
      self._tracing = False
      jax.profiler.stop_trace()

  @contextlib.contextmanager
  def _beginning(self, phase: Task) -> Iterator[None]:
    """Times the first step of a phase, which compiles."""
    which = f'step {self._step} begins a phase' if self._phase else 'first step'
    self.say(f'{which}: compiling it for {jax.device_count()} devices')
    before = self._clock.lost.get('compile', 0.0)
    with self._clock.spending('compile'):
      yield
    if self._phase is None:
      self._clock.begin(self._step)
    seconds = self._clock.lost['compile'] - before
    self.say(f'step {self._step}, compiled, in {seconds:.1f} s')
    self._phase = phase
    self._scale = scale_of(phase, self._training.state, self._training.batch)

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
    alarms = self._alarms.add(row)
    self._report.write(row, list(alarms))
    self._report.write_samples(self._step, samples, self._sample_rate)
    speed = self._scale.speed(self._clock.figures(self._step, self._total))
    self._report.write_speed(self._step, speed)
    self.say(self._scale.line(self._step, self._total, metrics, speed))
    times = self._clock.elapsed, speed.get('seconds_left')
    self._progress(
      Progress(self._stage, self._step, self._total, 'steps', *times)
    )
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
      f'{seconds:.0f} s: the input is stalled; check the disk or the '
      'network that holds it'
    )


class Watchdog:
  """A thread that looks at how long the current block has taken.

  Each line doubles the patience, so a bad night of a slow disk is a handful
  of lines.
  """

  def __init__(self, tell: Callable[[float], None], patience: float):
    """Sleeps until it is entered.

    Args:
      tell: Called from the thread with the seconds waited so far.
      patience: Seconds before the first line.
    """
    self._tell, self._patience = tell, patience
    self._since: float | None = None
    self._ended = threading.Event()
    self._interval = patience / 10
    self._thread = threading.Thread(target=self._look, daemon=True)

  def __enter__(self) -> 'Watchdog':
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()

  @contextlib.contextmanager
  def watching(self) -> Iterator[None]:
    """Watches over a block."""
    self._since = time.monotonic()
    try:
      yield
    finally:
      self._since = None

  def _look(self) -> None:
    while not self._ended.wait(self._interval):
      since = self._since
      waited = 0.0 if since is None else time.monotonic() - since
      if waited > self._patience:
        self._patience *= 2
        self._tell(waited)


def describe(arguments: PyTree) -> dict[str, tuple[str, Any]]:
  """Name of each array -> its type and its sharding, all that jit looks at.

  Arrays that were donated are described too.
  """
  return {
    name: (
      str(jax.typeof(array)).replace('~', 'weakly typed '),
      getattr(array, 'sharding', None),
    )
    for name, array in flatten(arguments).items()
  }


def differences(old: Mapping[str, tuple], new: Mapping[str, tuple]) -> str:
  """Says in words which arrays are not what they were, the first of them."""
  found = []
  for name in sorted(old.keys() | new.keys()):  # the batch before the state
    was, now = (each.get(name, ('nothing', None)) for each in (old, new))
    if was != now:
      index = 0 if was[0] != now[0] else 1  # of equal types another sharding
      found.append(f'{name} is {now[index]}, not {was[index]}')
  return first_few(found, _NAMED) or 'its arguments are what they were'
