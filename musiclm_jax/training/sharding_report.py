"""Where the state lies: a table of every parameter's shape, spec and bytes."""

import collections
import math
import re
from pathlib import Path

import jax

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.terminal import size
from musiclm_jax.training.state import TrainState, flatten

FILE = 'sharding.txt'
_PARTS = ('params', 'ema_params', 'opt_state', 'collections')


def write(workdir: Path, abstract: TrainState) -> None:
  """Prints how parameters lie over devices and keeps it in the workdir.

  On one device, where there is nothing to choose, one line is printed; the
  table is in `sharding.txt` all the same.
  """
  text = table(abstract)
  atomic_file.write_text(Path(workdir) / FILE, text)
  alone = abstract.step.sharding.mesh.size == 1
  print(text.splitlines()[0] if alone else text, flush=True)


def table(abstract: TrainState) -> str:
  """Makes the table: totals, then each parameter and each collection.

  Parameters that differ in the numbers of their names only are one row with
  their count; bytes are those of all of them on one device.

  Args:
    abstract: Of `state.abstract_state`.
  """
  mesh = abstract.step.sharding.mesh
  count = sum(leaf.size for leaf in jax.tree.leaves(abstract.params))
  axes = ' x '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
  devices = axes if mesh.size > 1 else 'one device'
  totals = []
  for part in _PARTS:
    whole, own = held(getattr(abstract, part))
    if whole:
      share = f' ({size(own)})' if own != whole else ''
      totals.append(f'{part} {size(whole)}{share}')
  heading = f'{count:,} parameters on {devices}: {", ".join(totals)}'
  if mesh.size > 1:
    heading += '; in brackets on each device'
  shares = collections.defaultdict(list)
  for part in ('params', 'collections'):
    for name, leaf in flatten(getattr(abstract, part)).items():
      shape = 'x'.join(map(str, leaf.shape)) or 'scalar'
      row = part, re.sub(r'\d+', '*', name), shape, _spec(leaf)
      shares[row].append(_share(leaf))
  rows = [('name', 'shape', 'spec', 'bytes a device')]
  for (_, name, *rest), alike in shares.items():
    times = f' x{len(alike)}' if len(alike) > 1 else ''
    rows.append((name + times, *rest, size(sum(alike))))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))
    for row in rows
  ]
  return '\n'.join([heading, *(line.rstrip() for line in lines)]) + '\n'


def held(tree: PyTree) -> tuple[int, int]:
  """Counts bytes of a described tree: in all, and on each device."""
  leaves = jax.tree.leaves(tree)
  whole = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
  return whole, sum(map(_share, leaves))


def _share(leaf: jax.ShapeDtypeStruct) -> int:
  own = leaf.sharding.shard_shape(leaf.shape)
  return math.prod(own) * leaf.dtype.itemsize


def _spec(leaf: jax.ShapeDtypeStruct) -> str:
  """Mesh axes of more than one device, by axis of the array."""
  where = leaf.sharding
  axes = (*where.spec, *(None,) * leaf.ndim)[: leaf.ndim]
  cut = [axis if axis and where.mesh.shape[axis] > 1 else '-' for axis in axes]
  return ', '.join(cut) if set(cut) - {'-'} else 'whole'
