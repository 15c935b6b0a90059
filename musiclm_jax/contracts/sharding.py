"""Mesh and sharding rules: logical axis names -> mesh axes -> NamedSharding.

Parameters carry logical axis names from the layer that makes them
(`nn.einsum.parameter`); one table of rules maps those to mesh axes. FSDP and
tensor parallelism are rules, not code.

Inside of `layout` a layer takes its parameters whole over `fsdp` (`gather`):
each multiplication then has its batch over data and fsdp and its weights over
tensor, and no others are left to the partitioner.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError

MESH_AXES = ('data', 'fsdp', 'tensor')
BATCH_AXES = ('data', 'fsdp')

# A parameter axis that is not named here, or whose size the mesh axis does
# not divide, is replicated. So are codebooks, which are collections: every
# device compares its frames with all entries.
RULES: Mapping[str, str | None] = {
  'embed': 'fsdp',
  'channels': 'fsdp',  # of convolutions, in and out: the first that divides
  'mlp': 'tensor',
  'heads': 'tensor',
  'vocab': 'tensor',
  'head_dim': None,
  'layers': None,
}


def make_mesh(
  *,
  fsdp: int = 1,
  tensor: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Arranges devices as `('data', 'fsdp', 'tensor')`; data takes the rest.

  Axis types are Auto: Explicit, the default of `jax.make_mesh`, breaks
  gathers such as a codebook look-up.

  Args:
    fsdp: Devices that share one copy of the parameters; 0 takes all that
      tensor leaves.
    tensor: Devices that share one layer's heads, hidden units, vocabulary.
    devices: All of jax's devices if not given.

  Raises:
    UsageError: If the number of devices is not a multiple of fsdp * tensor.
  """
  devices = jax.devices() if devices is None else list(devices)
  fsdp = fsdp or max(1, len(devices) // tensor)
  if len(devices) % (fsdp * tensor):
    raise UsageError(
      f'{len(devices)} devices cannot be split into fsdp={fsdp} times '
      f'tensor={tensor}: choose --config.mesh.fsdp and --config.mesh.tensor '
      f'whose product divides {len(devices)}'
    )
  shape = (len(devices) // (fsdp * tensor), fsdp, tensor)
  return jax.make_mesh(
    shape, MESH_AXES, (AxisType.Auto,) * len(shape), devices=devices
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that keeps a whole copy on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a batch: its first axis over data and fsdp."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def place_rows(rows: PyTree, mesh: Mesh | None) -> PyTree:
  """Puts arrays of one batch over a mesh; without one they stay."""
  if mesh is None:
    return rows
  return jax.device_put(rows, batch_sharding(mesh))


def batch_shards(mesh: Mesh) -> int:
  """Counts the parts that a global batch is cut into."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> PyTree:
  """Places this process's rows [B / processes, ...] of a global batch.

  Raises:
    UsageError: If the global batch cannot be cut evenly over the devices.
  """
  sharding, parts = batch_sharding(mesh), batch_shards(mesh)
  for name, rows in batch.items():
    size = len(rows) * jax.process_count()
    if size % parts:
      raise UsageError(
        f'a batch of {size} ({name}) cannot be split over {parts} devices: '
        f'choose a batch_size that is a multiple of {parts}'
      )
  return {
    name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
    for name, rows in batch.items()
  }


_MESH: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar(
  'mesh', default=None
)


@contextlib.contextmanager
def layout(mesh: Mesh | None) -> Iterator[None]:
  """Tells layers that are traced inside which mesh they will run on.

  Args:
    mesh: Of the run; None leaves everything to the partitioner.
  """
  token = _MESH.set(mesh)
  try:
    yield
  finally:
    _MESH.reset(token)


def gather(value: jax.Array, names: Sequence[str | None]) -> jax.Array:
  """Asks for a parameter whole over `fsdp`, as a layer uses it.

  Left to itself, XLA's partitioner may cut a multiplication in any way; on a
  mesh whose three axes are all larger than 1 it then computes wrong gradients
  (jax 0.10.2, Shardy and GSPMD alike: `experiments/mesh_equality/`).

  Its gradient is whole, too, and then cut to where the parameter lies: inside
  of a scan over layers a TPU makes one reduce-scatter of both.

  Args:
    value: The parameter, one layer of it under a scan.
    names: Its logical axes.
  """
  mesh = _MESH.get()
  if mesh is None or mesh.size == 1:
    return value
  spec = spec_of(names, value.shape, mesh)
  kept = (None if axis == 'fsdp' else axis for axis in spec)
  return _gather(
    value, NamedSharding(mesh, spec), NamedSharding(mesh, PartitionSpec(*kept))
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(
  value: jax.Array, stored: NamedSharding, whole: NamedSharding
) -> jax.Array:
  return jax.lax.with_sharding_constraint(value, whole)


def _gather_forward(
  value: jax.Array, stored: NamedSharding, whole: NamedSharding
) -> tuple[jax.Array, None]:
  return _gather(value, stored, whole), None


def _gather_backward(
  stored: NamedSharding, whole: NamedSharding, _: None, gradient: jax.Array
) -> tuple[jax.Array]:
  gradient = jax.lax.with_sharding_constraint(gradient, whole)
  return (jax.lax.with_sharding_constraint(gradient, stored),)


_gather.defvjp(_gather_forward, _gather_backward)


def spec_of(
  names: Sequence[str | None], shape: Sequence[int], mesh: Mesh
) -> PartitionSpec:
  """Maps logical axis names to mesh axes, each mesh axis at most once.

  A dimension stays whole where no rule names it, where its mesh axis is
  taken by an earlier dimension, or where the mesh axis does not divide it.
  """
  if len(names) != len(shape):
    # Factored optimizer statistics inherit names of a kernel of higher rank.
    return PartitionSpec()
  taken, spec = set(), []
  for name, size in zip(names, shape, strict=True):
    axis = RULES.get(name) if name else None
    if axis is None or axis in taken or size % mesh.shape[axis]:
      spec.append(None)
    else:
      taken.add(axis)
      spec.append(axis)
  return PartitionSpec(*spec)


def shardings_of(boxed: PyTree, mesh: Mesh) -> PyTree:
  """Turns an abstract tree with boxed leaves into unboxed NamedShardings.

  Args:
    boxed: Tree of `ShapeDtypeStruct`, boxed where a layer named its axes.
    mesh: The mesh of the run.

  Returns:
    A tree of the structure of `nn.unbox(boxed)`.
  """

  def one(leaf: Any) -> PyTree:
    if isinstance(leaf, nn.Partitioned):
      # A box is empty where an optimizer keeps nothing for a parameter.
      return jax.tree.map(
        lambda value: NamedSharding(
          mesh, spec_of(leaf.names, value.shape, mesh)
        ),
        leaf.value,
      )
    return replicated(mesh)

  return jax.tree.map(
    one, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned)
  )
