"""A rehearsal: config and topology -> what a training would need and reach.

That is predicted, as an upper bound: work of a step over what chips can do.
Without a topology some steps are measured on the devices that are here.
"""

import copy
import dataclasses
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from musiclm_jax import stages
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import task_at
from musiclm_jax.rehearsal.collectives import collectives, links_of
from musiclm_jax.rehearsal.topology import Topology
from musiclm_jax.training.assembly import Training, assemble
from musiclm_jax.training.flops import model_flops, program_flops
from musiclm_jax.training.sharding_report import held
from musiclm_jax.training.speed import scale_of
from musiclm_jax.training.state import TrainState

Config = Mapping[str, Any]
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_SIZE = r'([\d.]+)([KMGT]?)B?'
# Two ways in which XLA refuses a program of too much memory.
_REFUSALS = (
  re.compile(rf'Used {_SIZE} of {_SIZE} hbm'),
  re.compile(rf'\({_SIZE}\) exceeds available HBM \({_SIZE}\)'),
)
_STEPS = 5  # that are timed
_VERSIONS = ('jax', 'jaxlib', 'libtpu')


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


def rehearse(config: Config, topology: Topology) -> dict[str, Any]:
  """Compiles the training step of a config for a slice and reads it.

  Args:
    config: Resolved, as a nested dict.
    topology: The slice.

  Returns:
    What `--json` writes, without `suggestion`. `t_compute`, `t_hbm` and
    `t_ici` are seconds of a step: of the products of the program, recomputation
    included, of the bytes between chip and memory, and of those on the
    interconnect. Where the program does not fit, `max_mfu`, `bound_by` and
    `t_ici` are None, there are no collectives, and `peak_hbm_bytes` is what
    XLA says, in its refusal if it refused.

  Raises:
    UsageError: If mesh or batch do not divide.
  """
  planned = plan(config, topology.devices)
  state, batch, chip = planned.state, planned.batch, topology.chip
  compiled, seconds, memory = compile_step(planned)
  limit = memory.limit or int(chip.hbm_bytes)
  # XLA refuses what is live at once; what it lays out may be more.
  fits = compiled is not None and memory.peak <= limit
  needed = model_flops(planned.task, state.params, state.collections, batch)
  platform = planned.mesh.devices.flat[0].platform
  step = planned.step(planned.task)
  computed = program_flops(step, state, batch, platform=platform)
  traffic = hbm_bytes(config, planned)
  peak = chip.peak * planned.mesh.size  # products are cut evenly
  times = {'compute': computed / peak, 'hbm': traffic / chip.hbm_bandwidth}
  found, max_mfu, bound_by = [], None, None
  if fits:
    found = collectives(compiled.as_text(), planned.mesh, links_of(topology))
    times['ici'] = sum(one.seconds for one in found)
    max_mfu, bound_by = bound(needed / peak, times)
  return {
    'fits': fits,
    'peak_hbm_bytes': memory.peak,
    'hbm_limit_bytes': limit,
    'max_mfu': max_mfu,
    'bound_by': bound_by,
    **{f't_{name}': times.get(name) for name in ('compute', 'hbm', 'ici')},
    'collectives': [dataclasses.asdict(one) for one in found],
    'model_flops': needed,
    'program_flops': computed,
    'hbm_bytes': traffic,
    'batch_bytes': held(batch)[1],
    'parameter_bytes': held(state.params)[1],
    'argument_bytes': memory.arguments,
    'temporary_bytes': memory.temporaries,
    'live_bytes': memory.live,
    'chips': planned.mesh.size,
    'peak_flops': chip.peak,
    'link_bandwidth': chip.link_bandwidth,
    **described(config, planned, topology.name),
    'compile_seconds': round(seconds, 1),
  }


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


def rehearse_and_suggest(
  config: Config, topology: Topology, say: Callable[[str], None] = print
) -> dict[str, Any]:
  """As `rehearse`, with `suggestion`: None where the config fits as it is."""
  result = rehearse(config, topology)
  suggestion = None
  if not result['fits']:
    say(
      f'does not fit: at least {result["peak_hbm_bytes"] / 1e9:.1f} GB of '
      f'{result["hbm_limit_bytes"] / 1e9:.1f}; trying changes'
    )
    suggestion = suggest(
      config, result, lambda changed: rehearse(changed, topology), say
    )
  return result | {'suggestion': suggestion}


def suggest(
  config: Config,
  refused: Mapping[str, Any],
  attempt: Callable[[Config], Mapping[str, Any]],
  say: Callable[[str], None] = print,
) -> dict[str, Any] | None:
  """Finds the smallest change of a config that fits, by trying.

  Those that change least come before others. Parameters over all devices and
  recomputation change nothing that is learned; nor do microbatches, except
  that a contrastive loss has its negatives and codebooks their statistics from
  one alone; a smaller batch does.

  Args:
    config: That does not fit.
    refused: Its result.
    attempt: Rehearses a config.
    say: Is told of each try.

  Returns:
    `changes` of dotted keys, and `fits`, `peak_hbm_bytes`, `max_mfu` and
    `bound_by` of the config so changed; None if nothing helps.
  """
  for changes in _candidates(config, refused):
    flags = ' '.join(f'--config.{key}={v}' for key, v in changes.items())
    try:
      found = attempt(with_changes(config, changes))
    except UsageError:
      continue
    say(f'{flags}: {"fits" if found["fits"] else "does not fit"}')
    if found['fits']:
      kept = ('fits', 'peak_hbm_bytes', 'max_mfu', 'bound_by')
      return {'changes': changes, **{name: found[name] for name in kept}}
  return None


def _candidates(
  config: Config, refused: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
  """Yields changes of dotted keys, the least first."""
  mesh, limit = refused['mesh'], refused['hbm_limit_bytes']
  kept: dict[str, Any] = {}
  if refused['parameter_bytes'] > 0 and mesh['data'] > 1:
    kept = {'mesh.fsdp': 0}
    yield dict(kept)
  flat = flatten_dict(config, sep='.').items()
  unsaved = [k for k, v in flat if k.endswith('.remat') and v == 'none']
  if unsaved:
    kept |= dict.fromkeys(unsaved, 'full')
    yield dict(kept)
  shards = mesh['data'] * mesh['fsdp']
  size, parts = config['data']['batch_size'], config['training']['accumulation']
  fewer = _halves(size // (shards * parts), refused['peak_hbm_bytes'] / limit)
  if refused['batch_bytes'] < limit:
    for count in fewer:
      yield kept | {'training.accumulation': size // (shards * count)}
  for count in fewer:
    yield kept | {'data.batch_size': shards * count * parts}


def _halves(rows: int, need: float) -> list[int]:
  """Divisors of the rows on a device, each at most half of the one before.

  Args:
    rows: Of a microbatch on one device.
    need: Memory that they need over what there is, at least.
  """
  found: list[int] = []
  most = max(1, math.floor(rows / max(need, 1.0)))
  for count in range(min(most, rows - 1), 0, -1):
    if rows % count == 0 and (not found or count <= max(1, found[-1] // 2)):
      found.append(count)
  return found


def bound(
  ideal_seconds: float, times: Mapping[str, float]
) -> tuple[float, str]:
  """Says what the times of a step allow; none hides behind the longest.

  Args:
    ideal_seconds: Of the model FLOPs at the peak of all chips.
    times: Seconds by what they go into, such as `compute`.

  Returns:
    The largest MFU that is possible, and which time it is that bounds it.
  """
  longest = max(times, key=times.__getitem__)
  return ideal_seconds / times[longest], longest


def hbm_bytes(config: Config, training: Training) -> float:
  """Counts what passes between one chip and its memory in a step, at least.

  That is its share of the state, read and written; the parameters as they are
  used, read forward and backward, and as many gradients, written and read;
  what the forward pass keeps for the backward pass, written and read; the
  batch. What XLA writes beside, because it does not fit on the chip, is left
  out: this is a lower bound.
  """
  state, batch, mesh = training.state, training.batch, training.mesh
  # Parameters in the type and parts in which they are used.
  width = 2 if 'bfloat16' in str(config.get('model', {})) else 4
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  used = count * width / mesh.shape['tensor']
  # What is kept includes parameters, which do not grow with the batch: a batch
  # of twice the size tells how much is not theirs.
  twice = {'data.batch_size': 2 * config['data']['batch_size']}
  once, both = (
    _residual_bytes(training, stages.batch_shapes(each))
    for each in (config, with_changes(config, twice))
  )
  kept = (both - once) / mesh.size
  return 2 * held(state)[1] + 4 * used + 2 * kept + held(batch)[1]


def _residual_bytes(training: Training, batch: PyTree) -> int:
  """Bytes of what all players' losses keep, parameters included."""
  params, collections = training.state.params, training.state.collections
  key = jax.eval_shape(lambda: jax.random.key(0))
  step = jax.ShapeDtypeStruct((), np.int32)
  total = 0
  for player, loss in training.task.losses().items():

    def keep(own, params, *rest, player=player, loss=loss):
      def of_own(own):
        return loss({**params, player: own}, *rest)[0]

      return jax.vjp(of_own, own)[1]

    if jax.tree.leaves(params[player]):
      kept = jax.eval_shape(
        keep, params[player], dict(params), collections, batch, key, step
      )
      total += sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)
      )
  return total


def described(
  config: Config, planned: Training, topology: str
) -> dict[str, Any]:
  """The metadata of a result."""
  return {
    'stage': config['stage'],
    'topology': topology,
    'mesh': dict(planned.mesh.shape),
    'batch_size': config['data']['batch_size'],
    'accumulation': config['training']['accumulation'],
    'versions': versions(),
  }


def versions() -> dict[str, str | None]:
  """Of what compiles; None of what is not installed."""
  found = {}
  for package in _VERSIONS:
    try:
      found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      found[package] = None
  return found


def measure(config: Config) -> dict[str, Any]:
  """Trains a few steps on drawn values on all devices and times them.

  Args:
    config: Resolved, as a nested dict.

  Returns:
    `step_seconds` (the median), `rate` in `unit` a second, `mfu` (None where
    the peak of the chip is not known), `peak_hbm_bytes` where the device
    says, and what it is about.

  Raises:
    UsageError: If mesh or batch do not divide.
  """
  devices = jax.devices()
  planned = plan(config, devices)
  scale = scale_of(planned.task, planned.state, planned.batch)
  step = planned.step(planned.task)
  state, batch = begin(planned)
  seconds = []
  for _ in range(1 + _STEPS):  # the first one compiles
    start = time.perf_counter()
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    seconds.append(time.perf_counter() - start)
  median = statistics.median(seconds[1:])
  share = scale.peak_share
  memory = devices[0].memory_stats() or {}
  return {
    'step_seconds': median,
    'rate': scale.amount / median,
    'unit': scale.unit,
    'mfu': None if share is None else share / median,
    'peak_hbm_bytes': memory.get('peak_bytes_in_use'),
    **described(config, planned, f'{len(devices)} x {devices[0].device_kind}'),
    'compile_seconds': round(seconds[0] - median, 1),
  }


def begin(planned: Training) -> tuple[TrainState, PyTree]:
  """Makes the first state of a plan, and a batch of drawn values for it.

  Of quiet noise, and codes of 0; each row a group and a piece of its own.
  """
  rng = np.random.default_rng(0)

  def draw(name: str, leaf: Any) -> np.ndarray:
    if name in ('group', 'piece'):
      return np.arange(leaf.shape[0], dtype=leaf.dtype)
    if np.issubdtype(leaf.dtype, np.floating):
      return 0.1 * rng.standard_normal(leaf.shape, leaf.dtype)
    return np.zeros(leaf.shape, leaf.dtype)

  drawn = {name: draw(name, leaf) for name, leaf in planned.batch.items()}
  batch = sharding.put_batch(drawn, planned.mesh)
  return dataclasses.replace(planned, batch=batch).create_state(), batch
