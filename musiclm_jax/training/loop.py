"""The one train loop: mesh -> data -> state -> restore -> compile -> steps.

Step k reads batch k, which is a function of (seed, k), and noise that is a
function of (seed, k): a run that was killed and started again makes the same
parameters and the same record, bit for bit.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from musiclm_jax.contracts import paths, sharding
from musiclm_jax.contracts.progress import ProgressCallback, ignore
from musiclm_jax.contracts.task import Task, task_at
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.training import sharding_report
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.assembly import Evaluator, Training, assemble
from musiclm_jax.training.checkpoint import KEEP, Checkpoints
from musiclm_jax.training.non_finite import NonFiniteGuard
from musiclm_jax.training.observer import Observer
from musiclm_jax.training.schedule import Schedule
from musiclm_jax.training.speed import Clock
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.step import FINITE
from musiclm_jax.training.stop_request import StopRequest

HostBatch = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Data:
  """Batches of one stage, this process's rows of each.

  Attributes:
    train: From the first step's number to batches of that step and on.
    evaluation: To the held-out batches, the same at every call.
  """

  train: Callable[[int], Iterator[HostBatch]]
  evaluation: Callable[[], Iterable[HostBatch]] = tuple


@dataclasses.dataclass(frozen=True)
class Slice:
  """Where a run begins and ends; as it stands, a whole training.

  Attributes:
    begin: From the state of random values to the one to start from.
    first_step: Of that state; learning rates warm up from there.
    seconds_left: Tells how long the process may go on; the run is saved and
      ends before that.
    at_end: Takes the state that the run ends with, stopped or done.
    enough: Tells after a step, by its number and its held-out metrics, which
      are empty where none were taken, that the run ends as if all steps were
      done; alike in all processes. A later run goes on with those left.
  """

  begin: Callable[[TrainState], TrainState] = lambda state: state
  first_step: int = 0
  seconds_left: Callable[[], float] | None = None
  at_end: Callable[[TrainState], None] = lambda state: None
  enough: Callable[[int, Mapping[str, float]], bool] = lambda step, held_out: (
    False
  )


def train(
  task: Task,
  data: Data,
  *,
  workdir: Path,
  config: Mapping[str, Any],
  schedule: Mapping[str, int | str],
  optimizers: Mapping[str, Mapping[str, Any]],
  seed: int = 0,
  accumulation: int = 1,
  ema_decay: float = 0.0,
  contract_json: str | None = None,
  part: Slice = Slice(),
  profiled: range = range(0),
  fsdp: int = 1,
  tensor: int = 1,
  progress: ProgressCallback = ignore,
) -> TrainState:
  """Trains `task` in a claimed `workdir` until `schedule.total_steps`.

  Args:
    task: What is trained.
    data: Its batches.
    workdir: Held by `workdir.claim`.
    config: The resolved config, stored beside the checkpoints.
    schedule: Keyword arguments of `Schedule`.
    optimizers: Player -> keyword arguments of `make_optimizer`.
    seed: Of initial values and training noise.
    accumulation: Microbatches a step.
    ema_decay: Of averaged parameters; 0.0 is off.
    contract_json: Token contract of an LM.
    part: Of the training, that this run is.
    profiled: Steps to profile.
    fsdp: Devices that share one copy of the parameters, 0 for all; the
      others are data-parallel.
    tensor: Devices that share one layer.
    progress: Takes an event of every logged step.

  Returns:
    The last state.

  Raises:
    UsageError: If the workdir belongs to another config or is not shared by
      all processes, a checkpoint cannot be written or read, or the loss stays
      not finite; see `NonFiniteGuard`.
    SystemExit: When the state is saved after a SIGTERM or for the time (code
      75), or after a Ctrl-C (code 130).
  """
  clock = Clock()
  mesh = sharding.make_mesh(fsdp=fsdp, tensor=tensor)
  plan = Schedule(**schedule)
  batches = data.train(0)
  head = next(batches)
  training = assemble(
    task,
    sharding.put_batch(head, mesh),
    mesh,
    optimizers=optimizers,
    **vars(plan.horizon),
    seed=seed,
    accumulation=accumulation,
    ema_decay=ema_decay,
    first_step=part.first_step,
  )
  evaluator = Evaluator(training, data.evaluation)
  _check(training, plan, evaluator, workdir)
  _describe(training, workdir, config, contract_json)
  with Checkpoints(workdir, config, contract_json, plan) as checkpoints:
    state = _first_state(training, checkpoints, part, clock)
    done, code = int(state.step), 0
    if done < plan.total_steps:
      batches = data.train(done) if done else itertools.chain([head], batches)
      with Observer(
        training,
        plan.total_steps,
        workdir=workdir,
        done=done,
        clock=clock,
        stage=str(config['stage']),
        profiled=profiled,
        progress=progress,
      ) as observer:
        state, code = _run(
          training, state, batches, plan, checkpoints, evaluator, observer, part
        )
    else:
      _say_done(workdir, done, plan)
      checkpoints.save(state, {})  # where it comes out of an export
    part.at_end(state)
  if code:
    raise SystemExit(code)
  return state


def _check(
  training: Training, plan: Schedule, evaluator: Evaluator, workdir: Path
) -> None:
  """Refuses what would fail at the first evaluation or checkpoint only."""
  names = evaluator.names()  # draws a held-out batch
  if plan.best:
    plan.best.check(names)
  # Those checkpoints that are kept need room, and one that is being written.
  path = workdir / folder.CHECKPOINTS
  there = len(os.listdir(path)) if path.is_dir() else 0
  steps = filter(plan.saves, range(1, plan.total_steps + 1))
  saves = len(list(itertools.islice(steps, KEEP + 1)))
  each = sharding_report.held(training.state)[0]
  paths.check_room(path, each * max(1, saves - there), 'checkpoints')


def _describe(
  training: Training,
  workdir: Path,
  config: Mapping[str, Any],
  contract_json: str | None,
) -> None:
  """Writes what the workdir says of a training before its first step."""
  folder.describe_to_all(workdir, dict(config), contract_json)
  if jax.process_index() == 0:
    sharding_report.write(workdir, training.state)


def _first_state(
  training: Training, checkpoints: Checkpoints, part: Slice, clock: Clock
) -> TrainState:
  """The state of the newest checkpoint, or one of no steps."""
  with clock.spending('restore'):
    state = checkpoints.restore(training.state)
  return state or part.begin(training.create_state())


def _run(
  training: Training,
  state: TrainState,
  batches: Iterator[HostBatch],
  plan: Schedule,
  checkpoints: Checkpoints,
  evaluator: Evaluator,
  observer: Observer,
  part: Slice,
) -> tuple[TrainState, int]:
  """Steps from where the state is to the end of the plan, or to a stop.

  Returns:
    The state, which is saved, and the exit code of a stop, else 0.
  """
  guard = NonFiniteGuard(
    state, training.state, checkpoints, plan, observer.warn
  )
  with StopRequest(part.seconds_left, training.state) as stop:
    for number in range(int(state.step) + 1, plan.total_steps + 1):
      with observer.waiting():
        batch = sharding.put_batch(next(batches), training.mesh)
      phase = task_at(training.task, number - 1)
      # `training.step(phase)` is the program of `step.make_step`.
      with observer.stepping(phase, state, batch) as wait:
        state, metrics = training.step(phase)(state, batch)
        if wait:
          jax.block_until_ready((state, metrics))
      # Waits for the step before: no further ahead, or a stop comes too late.
      state, held_out = guard.check(state, number, batch, metrics), {}
      if plan.logs(number):
        values, samples = _scalars(observer.read(metrics), state), {}
        if plan.evaluates(number):
          with observer.spending('evaluate'):
            held_out, samples = evaluator(state)
          values |= held_out
        observer.log(values, samples)
      stopping, ended = stop.asked(number), part.enough(number, held_out)
      if stopping or ended or _saves(plan, number, state):
        with observer.spending('save'):
          checkpoints.save(state, held_out)
      if stopping:
        checkpoints.wait()
        observer.say(f'stopped and saved at step {number}: run again to go on')
        return state, stop.code
      if ended:
        break
  checkpoints.wait()
  observer.say(f'done: {number} steps')
  return state, 0


def _say_done(workdir: Path, done: int, plan: Schedule) -> None:
  line = f'done: {workdir} has {done} of {plan.total_steps} steps'
  print(printable(line))


def _saves(plan: Schedule, number: int, state: TrainState) -> bool:
  """Whether to save: not while steps are refused, but for the last one."""
  if not plan.saves(number):
    return False
  return number == plan.total_steps or int(state.refused_in_a_row) == 0


def _scalars(metrics: dict[str, np.ndarray], state: TrainState) -> dict:
  """What is recorded of a step."""
  inner = ('refused_in_a_row', FINITE)
  values = {k: float(v) for k, v in metrics.items() if k not in inner}
  if rolled_back := int(state.rolled_back):
    values['rolled_back'] = rolled_back
  return values
