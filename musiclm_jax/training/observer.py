"""Observes a training without changing it.

Progress line, record, profile, clock and warnings, each warning once. Only
the first process prints and writes.
"""

import collections
import contextlib
import dataclasses
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
from musiclm_jax.contracts.terminal import printable
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


@dataclasses.dataclass(frozen=True)
class ProfiledSteps:
  """Steps `first` to `last` of a profile, counted from 1, both included."""

  first: int
  last: int

  @classmethod
  def parse(cls, text: str, total_steps: int) -> 'ProfiledSteps':
    """Reads `FIRST:LAST`.

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
    return cls(first, last)


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
    profiled: ProfiledSteps | None = None,
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
    self._tracer = _Tracer(profiled if leads else None, workdir)
    if done:
      self.say(f'continuing {workdir} after step {done}')
    self._watchdog = Watchdog(self._say_stalled, PATIENCE_SECONDS)
    self._compilations = _Compilations()
    self._arguments: Mapping[str, tuple] = {}
    self._step, self._warned = done, set()

  def __enter__(self) -> 'Observer':
    with contextlib.ExitStack() as opened:
      if self._report is not None:
        opened.enter_context(self._report)
      for part in (self._tracer, self._watchdog, self._compilations):
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
    self._tracer.before(self._step)
    step, begins = self._training.step(phase), phase != self._phase
    compiled = self._compilations.of(step)
    with self._beginning(phase) if begins else contextlib.nullcontext():
      yield begins or self._tracer.ends(self._step)
    arguments = {'batch': batch, 'state': state}
    if begins:
      self._arguments = describe(arguments)
    elif self._compilations.of(step) > compiled:
      self.warn(
        'compiled again',
        f'step {self._step} compiled the program again: '
        f'{differences(self._arguments, describe(arguments))}; every new '
        'shape costs as much as the first step',
      )
    self._tracer.after(self._step)

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
    pace = self._clock.pace(self._step, self._total)
    speed = self._scale.speed(pace)
    self._report.write_speed(self._step, speed)
    self.say(self._scale.line(self._step, self._total, metrics, speed))
    times = self._clock.elapsed, pace.seconds_left
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


class _Tracer:
  """Writes what the profiled steps do on host and device, for TensorBoard."""

  def __init__(self, profiled: ProfiledSteps | None, workdir: Path):
    """Traces nothing where `profiled` is None, else into `workdir`/profile."""
    self._profiled, self._folder = profiled, Path(workdir) / PROFILE
    self._running = False

  def before(self, step: int) -> None:
    """Begins the trace if `step` is among them."""
    steps = self._profiled
    if steps and not self._running and steps.first <= step <= steps.last:
      jax.profiler.start_trace(str(plain_file(self._folder)))
      self._running = True

  def ends(self, step: int) -> bool:
    """Whether the trace, if any, ends with this step."""
    return self._running and step >= self._profiled.last

  def after(self, step: int) -> None:
    """Ends the trace when the last of them is done."""
    if self.ends(step):
      self.__exit__()
      where = printable(self._folder)
      print(f'profile of steps up to {step} in {where}', flush=True)

  def __enter__(self) -> '_Tracer':
    return self

  def __exit__(self, *_: object) -> None:
    if self._running:
      self._running = False
      jax.profiler.stop_trace()


class _Compilations:
  """How often each jitted function was compiled since the block began."""

  def __init__(self):
    self._counts: collections.Counter[str] = collections.Counter()

  def __enter__(self) -> '_Compilations':
    jax.monitoring.register_event_duration_secs_listener(self._count)
    return self

  def __exit__(self, *_: object) -> None:
    jax.monitoring.unregister_event_duration_listener(self._count)

  def of(self, function: Callable) -> int:
    """Counts the compilations of a jitted function, known by its name."""
    return self._counts[f'jit({function.__name__})']

  def _count(
    self, event: str, duration: float, fun_name: str = '', **_: object
  ) -> None:
    self._counts[fun_name] += event == _COMPILED


def describe(arguments: PyTree) -> dict[str, tuple[str, Any]]:
  """Name of each array -> its type and its sharding, all that jit looks at.

  Arrays that were donated are described too.
  """
  return {
    name: (_type(array), getattr(array, 'sharding', None))
    for name, array in flatten(arguments).items()
  }


def differences(old: Mapping[str, tuple], new: Mapping[str, tuple]) -> str:
  """Says in words which arrays are not what they were, the first of them."""
  found = []
  names = sorted(old.keys() | new.keys())  # 'batch/...' before 'state/...'
  for name in names:
    was, now = (each.get(name, ('nothing', None)) for each in (old, new))
    if was[0] != now[0]:
      found.append(f'{name} is {now[0]}, not {was[0]}')
    elif was[1] != now[1]:
      found.append(f'{name} lies as {now[1]}, not as {was[1]}')
  more = len(found) - _NAMED
  said = ', '.join(found[:_NAMED]) or 'its arguments are what they were'
  return said + (f' and {more} more' if more > 0 else '')


def _type(array: Any) -> str:
  aval = jax.typeof(array)
  weak = 'weakly typed ' if getattr(aval, 'weak_type', False) else ''
  return f'{weak}{aval.dtype}{list(aval.shape)}'
