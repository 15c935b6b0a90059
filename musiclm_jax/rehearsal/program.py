"""The training step of a config, compiled for devices that are not there.

config -> the training that `training.loop` would run -> what XLA makes of it
"""

import copy
import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from musiclm_jax import stages
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.task import task_at
from musiclm_jax.training.assembly import Training, assemble

Config = Mapping[str, Any]
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_SIZE = r'([\d.]+)([KMGT]?)B?'
# Two ways in which XLA refuses a program of too much memory.
_REFUSALS = (
  re.compile(rf'Used {_SIZE} of {_SIZE} hbm'),
  re.compile(rf'\({_SIZE}\) exceeds available HBM \({_SIZE}\)'),
)


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one chip: XLA's own account, or its refusal.

  Attributes:
    peak: All that the program needs, its arguments and itself included; a
      lower bound where the program was refused.
    arguments: State and batch; None where the program was refused.
    temporaries: Beside them.
    live: The most that is in use at once, below `peak` where pieces do not
      fill each other's places; None where the program was refused.
    limit: What a chip has, if XLA said so.
  """

  peak: int
  arguments: int | None = None
  temporaries: int | None = None
  live: int | None = None
  limit: int | None = None

  @classmethod
  def of_compiled(cls, compiled: Any) -> 'Memory':
    """Reads the account of an executable."""
    account = compiled.memory_analysis()
    arguments = account.argument_size_in_bytes
    temporaries = account.temp_size_in_bytes
    results = account.output_size_in_bytes - account.alias_size_in_bytes
    code = account.generated_code_size_in_bytes
    return cls(
      arguments + temporaries + results + code,
      arguments,
      temporaries,
      account.peak_memory_in_bytes,
    )

  @classmethod
  def of_refusal(cls, message: str) -> 'Memory | None':
    """Reads a RESOURCE_EXHAUSTED; None if it is not of a chip's memory."""
    for refusal in _REFUSALS:
      if match := refusal.search(message):
        used, used_unit, limit, limit_unit = match.groups()
        return cls(
          round(float(used) * _UNITS[used_unit]),
          limit=round(float(limit) * _UNITS[limit_unit]),
        )
    return None


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


def plan(config: Config, devices: Sequence[Any]) -> Training:
  """Describes the training of a config on some devices.

  Args:
    config: Resolved, as a nested dict.
    devices: Of jax, such as a topology's.

  Returns:
    The training in its last phase, in which all players play.

  Raises:
    UsageError: If the devices do not divide into the config's mesh, or the
      batch not into the mesh's parts.
  """
  total_steps = config['schedule']['total_steps']
  task = task_at(stages.build(config), total_steps - 1)
  mesh = sharding.make_mesh(devices=devices, **config['mesh'])
  place = sharding.batch_sharding(mesh)
  batch = {
    name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
    for name, leaf in stages.batch_shapes(config).items()
  }
  return assemble(
    task,
    batch,
    mesh,
    optimizers=config['optimizer'],
    total_steps=total_steps,
    seed=config['seed'],
    **config['training'],
  )


def compile_step(training: Training) -> tuple[Any, float, Memory]:
  """Compiles the step of a plan.

  Returns:
    The executable and how many seconds it took, or None and 0.0 where it needs
    too much memory, and the memory that it needs.

  Raises:
    jax.errors.JaxRuntimeError: Of XLA, other than for want of memory.
  """
  start = time.monotonic()
  step = training.step(training.task)
  try:
    compiled = step.lower(training.state, training.batch).compile()
  except jax.errors.JaxRuntimeError as error:
    memory = Memory.of_refusal(str(error))
    if memory is None:
      raise
    return None, 0.0, memory
  return compiled, time.monotonic() - start, Memory.of_compiled(compiled)
