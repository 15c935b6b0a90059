"""The training step of a config, compiled for devices that are not there.

config -> task, mesh, shapes -> the program that `training.loop` would run
"""

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from musiclm_jax import stages
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import Task, task_at
from musiclm_jax.training import microbatches
from musiclm_jax.training import state as states
from musiclm_jax.training.optimizer import make_optimizers
from musiclm_jax.training.state import TrainState
from musiclm_jax.training.step import compile_step

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Program:
  """A training step and all that it is about.

  Attributes:
    config: Resolved.
    task: The game.
    mesh: Of its devices.
    optimizers: Player -> optimizer.
    state: Described, with shardings.
    batch: Described, the global one, with shardings.
    step: Jitted as the loop does it.
  """

  config: Config
  task: Task
  mesh: Mesh
  optimizers: Mapping[str, optax.GradientTransformation]
  state: TrainState
  batch: PyTree
  step: Callable


def with_changes(config: Config, changes: Mapping[str, Any]) -> Config:
  """Copies a config, some of its dotted keys changed."""
  config = copy.deepcopy(dict(config))
  for key, value in changes.items():
    *sections, last = key.split('.')
    node = config
    for section in sections:
      node = node[section]
    node[last] = value
  return config


def plan(config: Config, devices: Sequence[Any]) -> Program:
  """Describes the training of a config on some devices.

  Args:
    config: Resolved, as a nested dict.
    devices: Of jax, such as a topology's.

  Raises:
    UsageError: If the devices do not divide into the config's mesh, or the
      batch not into the mesh's parts.
  """
  total_steps = config['schedule']['total_steps']
  # In its last phase, in which all players play.
  task = task_at(stages.build(config), total_steps - 1)
  mesh = sharding.make_mesh(devices=devices, **config['mesh'])
  place = sharding.batch_sharding(mesh)
  batch = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    for name, leaf in stages.batch_shapes(config).items()
  }
  players = make_optimizers(config['optimizer'], total_steps=total_steps)
  ema_decay = config['training']['ema_decay']
  state = states.abstract_state(
    task, players, batch, mesh, with_ema=ema_decay > 0
  )
  accumulation = config['training']['accumulation']
  microbatches.check(batch, accumulation, state)
  step = compile_step(
    task, players, state, accumulation=accumulation, ema_decay=ema_decay
  )
  return Program(config, task, mesh, players, state, batch, step)


def compile_program(program: Program) -> tuple[Any, float]:
  """Compiles it; returns the executable and how many seconds it took.

  Raises:
    jax.errors.JaxRuntimeError: Of XLA, such as RESOURCE_EXHAUSTED.
  """
  start = time.monotonic()
  compiled = program.step.lower(program.state, program.batch).compile()
  return compiled, time.monotonic() - start
