"""The one train loop: mesh -> data -> state -> restore -> compile -> steps.

Step k reads batch k, which is a function of (seed, k), and noise that is a
function of (seed, k): a run that was killed and started again makes the same
parameters and the same record, bit for bit.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import Task
from musiclm_jax.training import state as states
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.checkpoint import Checkpoints, flatten
from musiclm_jax.training.clock import Clock
from musiclm_jax.training.optimizer import make_optimizers
from musiclm_jax.training.report import Report
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.step import make_step
from musiclm_jax.training.stop_request import StopRequest

HostBatch = Mapping[str, np.ndarray]
MAX_REFUSED_IN_A_ROW = 10
STOPPED = 75  # exit code of a run that saved because it was asked to stop


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
class Schedule:
  """When to do what, in steps; 0 is never, but the last step does all."""

  total_steps: int
  log_every: int
  eval_every: int
  save_every: int

  def logs(self, step: int) -> bool:
    """Whether step number `step` (from 1) is logged; an eval step is."""
    return self._due(step, self.log_every) or self.evaluates(step)

  def evaluates(self, step: int) -> bool:
    """Whether held-out metrics are taken after step `step`."""
    return self._due(step, self.eval_every)

  def saves(self, step: int) -> bool:
    """Whether a checkpoint is written after step `step`."""
    return self._due(step, self.save_every)

  def _due(self, step: int, every: int) -> bool:
    return step == self.total_steps or (every > 0 and step % every == 0)


def train(
  task: Task,
  data: Data,
  *,
  workdir: Path,
  config: Mapping[str, Any],
  schedule: Mapping[str, int],
  optimizers: Mapping[str, Mapping[str, Any]],
  seed: int = 0,
  accumulation: int = 1,
  ema_decay: float = 0.0,
  contract_json: str | None = None,
  initial: tuple[PyTree, PyTree | None] | None = None,
  fsdp: int = 1,
  tensor: int = 1,
  rules: Mapping[str, str | None] = sharding.RULES,
) -> TrainState:
  """Trains `task` in a claimed `workdir` until `schedule.total_steps`.

  Args:
    task: The game.
    data: Its batches.
    workdir: Held by `workdir.claim`.
    config: The resolved config, stored beside the checkpoints.
    schedule: total_steps, log_every, eval_every and save_every.
    optimizers: Player -> keyword arguments of `make_optimizer`.
    seed: Of initial values and training noise.
    accumulation: Microbatches a step.
    ema_decay: Of averaged parameters; 0.0 is off.
    contract_json: Token contract of an LM.
    initial: (params, collections) to start from, instead of random ones; see
      `start_from`.
    fsdp: Devices that share one copy of the parameters, 0 for all; the
      others are data-parallel.
    tensor: Devices that share one layer.
    rules: Logical axis -> mesh axis.

  Returns:
    The last state.

  Raises:
    UsageError: If the workdir belongs to another config, a checkpoint cannot
      be written, or the loss stays non-finite.
    SystemExit: With code 75 after a SIGTERM, when the state is saved.
  """
  mesh = sharding.make_mesh(fsdp=fsdp, tensor=tensor)
  plan = Schedule(**schedule)
  players = make_optimizers(optimizers, total_steps=plan.total_steps)
  opening = data.train(0)
  head = next(opening)
  first = sharding.put_batch(head, mesh)
  _check_accumulation(first, accumulation, mesh)
  kwargs = {'seed': seed, 'with_ema': ema_decay > 0, 'rules': rules}
  abstract = states.abstract_state(task, players, first, mesh, **kwargs)
  if jax.process_index() == 0:
    folder.describe(workdir, dict(config), contract_json)
  checkpoints = Checkpoints(workdir)
  try:
    state = checkpoints.restore(abstract)
    if state is None:
      state = states.create_state(task, players, first, mesh, **kwargs)
      if initial is not None:
        state = start_from(state, *initial)
    step = jax.jit(
      make_step(task, players, accumulation=accumulation, ema_decay=ema_decay),
      donate_argnums=0,
      out_shardings=(states.shardings(abstract), sharding.replicated(mesh)),
    )
    done = int(state.step)
    batches = data.train(done) if done else itertools.chain([head], opening)
    evaluate = _evaluator(task, data, mesh)
    return _run(
      state, step, evaluate, batches, plan, workdir, checkpoints, mesh
    )
  finally:
    checkpoints.close()


def start_from(
  state: TrainState, params: PyTree, collections: PyTree | None
) -> TrainState:
  """Puts given weights and codebooks into a fresh state.

  Args:
    state: Of no steps.
    params: By player; only a part of them where `collections` is None, such
      as a pretrained tower. The others keep their random values.
    collections: By player.

  Raises:
    UsageError: Naming the first array that is missing, spare or of another
      shape.
  """
  whole = collections is not None
  given = flatten({'params': params, 'collections': collections or {}})
  ours = {'params': state.params, 'collections': state.collections}
  wanted = flatten(ours)
  compared = given.keys() | wanted.keys() if whole else given.keys()
  for name in sorted(compared):
    shapes = [
      tuple(np.shape(d[name])) if name in d else 'nothing'
      for d in (given, wanted)
    ]
    if shapes[0] != shapes[1]:
      raise UsageError(
        f'the weights to start from have {shapes[0]} at {name}, this config '
        f'needs {shapes[1]}: use the config of those weights'
      )
  placed = jax.tree.map(
    lambda leaf, name: (
      jax.device_put(np.asarray(given[name], leaf.dtype), leaf.sharding)
      if name in given
      else leaf
    ),
    ours,
    jax.tree.unflatten(jax.tree.structure(ours), list(wanted)),
  )
  averaged = jax.tree.map(jnp.copy, placed['params'])
  return state.replace(**placed, ema_params=state.ema_params and averaged)


def _run(
  state: TrainState,
  step_fn: Callable,
  evaluate: Callable[[TrainState], dict[str, float]],
  batches: Iterator[HostBatch],
  plan: Schedule,
  workdir: Path,
  checkpoints: Checkpoints,
  mesh: Mesh,
) -> TrainState:
  """Steps from where the state is to the end of the plan."""
  done = int(state.step)
  if done >= plan.total_steps:
    print(f'done: {workdir} has {done} steps of {plan.total_steps}')
    return state
  if done:
    print(f'continuing {workdir} after step {done}', flush=True)
  clock = Clock(done, plan.total_steps)
  leads = jax.process_index() == 0
  record = Report(workdir, done) if leads else contextlib.nullcontext()
  with record as report, StopRequest() as stop:
    for number in range(done + 1, plan.total_steps + 1):
      state, metrics = step_fn(state, sharding.put_batch(next(batches), mesh))
      clock.tick(number, metrics)
      if plan.logs(number):
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        refused = values.pop('refused_in_a_row')
        if plan.evaluates(number):
          values |= evaluate(state)
        if report:
          report.write(number, values)
          print(clock.line(number, values), flush=True)
        _check_refused(int(refused), number)
      stopping = stop.asked(agree=plan.logs(number))
      if plan.saves(number) or stopping:
        checkpoints.save(state)
      if stopping:
        checkpoints.wait()
        print(f'stopped and saved at step {number}: run again to go on')
        raise SystemExit(STOPPED)
  checkpoints.wait()
  print(f'done: {plan.total_steps} steps in {workdir}', flush=True)
  return state


def _evaluator(
  task: Task, data: Data, mesh: Mesh
) -> Callable[[TrainState], dict[str, float]]:
  """Makes the function that averages held-out metrics over examples."""

  @jax.jit
  def one(params: PyTree, collections: PyTree, batch: PyTree) -> PyTree:
    metrics = task.evaluate(params, collections, batch)
    return {k: jnp.mean(v.astype(jnp.float32)) for k, v in metrics.items()}

  def evaluate(state: TrainState) -> dict[str, float]:
    rows = [
      jax.device_get(
        one(
          state.inference_params,
          state.collections,
          sharding.put_batch(batch, mesh),
        )
      )
      for batch in data.evaluation()
    ]
    names = rows[0] if rows else ()
    return {
      f'eval_{name}': math.fsum(float(row[name]) for row in rows) / len(rows)
      for name in names
    }

  return evaluate


def _check_accumulation(batch: PyTree, accumulation: int, mesh: Mesh) -> None:
  size = len(next(iter(batch.values())))
  parts = accumulation * sharding.batch_shards(mesh)
  if accumulation < 1 or size % parts:
    raise UsageError(
      f'batch_size={size} cannot be cut into accumulation={accumulation} '
      f'microbatches on {sharding.batch_shards(mesh)} devices: choose a '
      f'multiple of {parts}'
    )


def _check_refused(refused_in_a_row: int, step: int) -> None:
  if refused_in_a_row >= MAX_REFUSED_IN_A_ROW:
    raise UsageError(
      f'at step {step} the loss or a gradient was not finite for '
      f'{refused_in_a_row} steps in a row; the parameters are those from '
      'before: lower a learning_rate or clip_norm in config.optimizer, or look '
      'at the data'
    )
