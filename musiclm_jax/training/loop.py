"""The one train loop: mesh -> data -> state -> restore -> compile -> steps.

Step k reads batch k, which is a function of (seed, k), and noise that is a
function of (seed, k): a run that was killed and started again makes the same
parameters and the same record, bit for bit.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import Task, task_at
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.training import microbatches, placement
from musiclm_jax.training import state as states
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.checkpoints import Checkpoints, check_room
from musiclm_jax.training.clock import Clock
from musiclm_jax.training.held_out import (
  Evaluator,
  held_out_names,
  make_evaluator,
)
from musiclm_jax.training.observer import Observer
from musiclm_jax.training.optimizer import make_optimizers
from musiclm_jax.training.refusals import Refusals
from musiclm_jax.training.schedule import Schedule
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.step import VERDICTS, compile_step
from musiclm_jax.training.stop_request import StopRequest
from musiclm_jax.training.trace_window import Window
from musiclm_jax.training.warm_start import start_from

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
  initial: tuple | None = None,
  window: Window | None = None,
  fsdp: int = 1,
  tensor: int = 1,
) -> TrainState:
  """Trains `task` in a claimed `workdir` until `schedule.total_steps`.

  Args:
    task: The game.
    data: Its batches.
    workdir: Held by `workdir.claim`.
    config: The resolved config, stored beside the checkpoints.
    schedule: Keyword arguments of `Schedule`.
    optimizers: Player -> keyword arguments of `make_optimizer`.
    seed: Of initial values and training noise.
    accumulation: Microbatches a step.
    ema_decay: Of averaged parameters; 0.0 is off.
    contract_json: Token contract of an LM.
    initial: What to start from instead of random values: the arguments of
      `warm_start.start_from` after the state.
    window: Steps to profile.
    fsdp: Devices that share one copy of the parameters, 0 for all; the
      others are data-parallel.
    tensor: Devices that share one layer.

  Returns:
    The last state.

  Raises:
    UsageError: If the workdir belongs to another config or is not shared by
      all processes, a checkpoint cannot be written or read, or the loss stays
      not finite; see `Refusals`.
    SystemExit: When the state is saved after a SIGTERM (code 75) or a Ctrl-C
      (code 130).
  """
  clock = Clock()
  mesh = sharding.make_mesh(fsdp=fsdp, tensor=tensor)
  plan = Schedule(**schedule)
  players = make_optimizers(optimizers, total_steps=plan.total_steps)
  opening = data.train(0)
  head = next(opening)
  first = sharding.put_batch(head, mesh)
  kwargs = {'seed': seed, 'with_ema': ema_decay > 0}
  abstract = states.abstract_state(task, players, first, mesh, **kwargs)
  microbatches.check(first, accumulation, abstract)
  _check_held_out(plan, task, data, abstract)
  check_room(workdir, abstract, plan)
  folder.describe_to_all(workdir, dict(config), contract_json)
  if jax.process_index() == 0:
    placement.tell(workdir, abstract)
  checkpoints = Checkpoints(workdir, config, contract_json, plan)
  try:
    with clock.spending('restore'):
      state = checkpoints.restore(abstract)
    if state is None:
      state = states.create_state(task, players, first, mesh, **kwargs)
      state = start_from(state, *initial) if initial else state
    done = int(state.step)
    if done >= plan.total_steps:
      print(
        printable(f'done: {workdir} has {done} of {plan.total_steps} steps')
      )
      return state
    options = {'accumulation': accumulation, 'ema_decay': ema_decay}
    compiled = functools.cache(
      lambda game: compile_step(game, players, abstract, **options)
    )
    batches = data.train(done) if done else itertools.chain([head], opening)
    evaluate = make_evaluator(task, data.evaluation, mesh)
    placed = (sharding.put_batch(batch, mesh) for batch in batches)
    about = {'workdir': workdir, 'done': done, 'clock': clock, 'window': window}
    with Observer(task, abstract, first, plan.total_steps, **about) as observer:
      return _run(
        state, task, compiled, placed, plan, checkpoints, evaluate, observer
      )
  finally:
    checkpoints.close()


def _run(
  state: TrainState,
  task: Task,
  compiled: Callable[[Task], Callable],
  batches: Iterator[PyTree],
  plan: Schedule,
  checkpoints: Checkpoints,
  evaluate: Evaluator,
  observer: Observer,
) -> TrainState:
  """Steps from where the state is to the end of the plan."""
  refusals = Refusals(state, checkpoints, plan, observer.warn)
  with StopRequest() as stop:
    for number in range(int(state.step) + 1, plan.total_steps + 1):
      with observer.waiting():
        batch = next(batches)
      game = task_at(task, number - 1)
      state, metrics = observer.run(game, compiled(game), state, batch)
      # Waits for the step before: no further ahead, or a stop comes too late.
      state, held_out = refusals.settle(state, number, batch, metrics), {}
      if plan.logs(number):
        values, samples = _scalars(observer.read(metrics), state), {}
        if plan.evaluates(number):
          with observer.spending('evaluate'):
            held_out, samples = evaluate(state)
          values |= held_out
        observer.log(values, samples)
      stopping = stop.asked(number)
      if stopping or _saves(plan, number, state):
        with observer.spending('save'):
          checkpoints.save(state, held_out)
      if stopping:
        checkpoints.wait()
        observer.say(f'stopped and saved at step {number}: run again to go on')
        raise SystemExit(stop.code)
  checkpoints.wait()
  observer.say(f'done: {plan.total_steps} steps')
  return state


def _saves(plan: Schedule, number: int, state: TrainState) -> bool:
  """Whether to save: not while steps are refused, but for the last one."""
  if not plan.saves(number):
    return False
  return number == plan.total_steps or int(state.refused_in_a_row) == 0


def _scalars(
  metrics: Mapping[str, np.ndarray], state: TrainState
) -> dict[str, float]:
  """What is recorded of a step."""
  inner = ('refused_in_a_row', VERDICTS)
  values = {k: float(v) for k, v in metrics.items() if k not in inner}
  if rolled_back := int(state.rolled_back):
    values['rolled_back'] = rolled_back
  return values


def _check_held_out(
  plan: Schedule, task: Task, data: Data, abstract: TrainState
) -> None:
  """Draws a held-out batch, lest it fail at the first evaluation only."""
  names = held_out_names(task, data.evaluation, abstract)
  if plan.best:
    plan.best.check(names)
