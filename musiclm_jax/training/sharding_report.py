"""Where the state lies: a table of every parameter's shape, spec and bytes."""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.training.state import TrainState

FILE = 'sharding.txt'
_PARTS = ('params', 'ema_params', 'opt_state', 'collections')


class _Row(NamedTuple):
  """Equal parameters: name with * for numbers, shape, spec, bytes a device."""

  name: str
  shape: str
  spec: str
  share: int


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
  count = sum(
    math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract.params)
  )
  axes = ' x '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
  devices = axes if mesh.size > 1 else 'one device'
  totals = ', '.join(
    f'{part} {_size(whole)}' + (f' ({_size(own)})' if own != whole else '')
    for part in _PARTS
    if (whole := held(tree := getattr(abstract, part))[0])
    for own in (held(tree)[1],)
  )
  heading = f'{count:,} parameters on {devices}: {totals}'
  if mesh.size > 1:
    heading += '; in brackets on each device'
  rows = [('name', 'shape', 'spec', 'bytes a device')]
  for part in ('params', 'collections'):
    for row, number in _grouped(getattr(abstract, part)):
      times = f' x{number}' if number > 1 else ''
      rows.append(
        (row.name + times, row.shape, row.spec, _size(number * row.share))
      )
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


def _grouped(tree: PyTree) -> Iterator[tuple[_Row, int]]:
  """Rows in the order of the tree, alike ones together, with their number."""

  def row(path: Any, leaf: jax.ShapeDtypeStruct) -> _Row:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    where = leaf.sharding
    spec = [
      axis if axis and where.mesh.shape[axis] > 1 else None
      for axis in (*where.spec, *(None,) * leaf.ndim)[: leaf.ndim]
    ]
    return _Row(
      re.sub(r'\d+', '*', name),
      'x'.join(map(str, leaf.shape)) or 'scalar',
      ', '.join(axis or '-' for axis in spec) if any(spec) else 'whole',
      _share(leaf),
    )

  rows = [row(*pair) for pair in jax.tree_util.tree_leaves_with_path(tree)]
  order = {row: place for place, row in reversed(list(enumerate(rows)))}
  for found, alike in itertools.groupby(sorted(rows, key=order.get)):
    yield found, len(list(alike))


def _size(count: float) -> str:
  """Bytes for readers: 1.7 GB."""
  for unit in ('B', 'kB', 'MB'):
    if count < 1000:
      return f'{count:.3g} {unit}'
    count /= 1000
  return f'{count:.3g} GB'
