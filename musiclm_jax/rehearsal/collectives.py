"""Communication between chips: compiled HLO text -> collectives.

Each has its kind, the bytes of one run, how often it runs in a step (scans
are while loops with a constant bound), the mesh axes that its groups span and
the seconds that the links need.

A collective over k axes of the torus uses all of their links: two a chip and
axis where the axis closes into a ring, one direction each. On an axis that
does not close, the chips at its ends have one link.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
from jax.sharding import Mesh

from musiclm_jax.rehearsal.topology import Topology

# Bytes that pass a chip, as shares of the whole array, for n chips.
_PASSES = {
  'all-reduce': lambda n: 2 * (n - 1) / n,
  'all-gather': lambda n: (n - 1) / n,
  'reduce-scatter': lambda n: (n - 1) / n,
  'all-to-all': lambda n: (n - 1) / n,
  'collective-permute': lambda n: 1.0,
}
# Reducers and conditions hold no collectives of interest.
_NOT_RUN = ('to_apply', 'condition')
_WRAPPERS = ('while', 'body', 'closed_call', 'checkpoint', 'jit(step)')
_BYTES = {'pred': 1, 'bf16': 2, 'c64': 8, 'c128': 16}
_HEADER = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%([\w.-]+) = (.+?) ([a-z][\w-]*)\(')
_CALLED = re.compile(
  r'\b(calls|body|condition|to_apply|true_computation|false_computation)='
  r'%([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_ARRAY = re.compile(r'([a-z]+\d*)\[([\d,]*)\]')
_TRIPS = re.compile(r'known_trip_count\W+n\W+(\d+)')
_CHANNEL = re.compile(r'channel_id=(\d+)')
_SOURCE = re.compile(r'op_name="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Links:
  """The interconnect of a slice.

  Attributes:
    bandwidth: Of a link, one way, bytes/s.
    rings: Of each axis of the slice, whether it closes.
  """

  bandwidth: float
  rings: tuple[bool, ...]

  def seconds(
    self, kind: str, size: int, chips: Sequence[tuple[int, ...]]
  ) -> float:
    """Says how long the links need for one run.

    Args:
      kind: A key of `_PASSES`.
      size: Bytes of the whole array on one chip.
      chips: Coordinates of one group.
    """
    used = [
      2 if ring else 1
      for axis, ring in enumerate(self.rings)
      if len({chip[axis] for chip in chips}) > 1
    ]
    links = 1 if kind == 'collective-permute' else sum(used)
    moved = size * _PASSES[kind](len(chips))
    return moved / (links * self.bandwidth) if links else 0.0


def links_of(topology: Topology) -> Links:
  """Reads the interconnect of a slice.

  v4 and v5p close an axis into a ring where the slice is whole cubes of
  4 x 4 x 4; v5e and v6e where it is 16 chips long.
  """
  shape = topology.shape
  if topology.chip.torus_axes == 3:
    rings = (all(size % 4 == 0 for size in shape),) * 3
  else:
    rings = tuple(size == 16 for size in shape)
  return Links(topology.chip.link_bandwidth, rings)


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective operation of a step.

  Attributes:
    kind: As XLA says it, `all-reduce` and so on.
    bytes: Of the whole array that a chip gives or receives, one run.
    trips: Runs a step.
    axis: Mesh axes that a group spans, joined by `+`.
    group: Chips in a group.
    seconds: That the links need in a step.
    source: The operation of ours that it comes from.
  """

  kind: str
  bytes: int
  trips: int
  axis: str
  group: int
  seconds: float
  source: str


def collectives(text: str, mesh: Mesh, links: Links) -> list[Collective]:
  """Finds the collectives of a compiled program, the slowest first.

  Args:
    text: `compiled.as_text()`.
    mesh: That it was compiled for.
    links: Of its chips.
  """
  module = _read(text)
  found: dict[str, Collective] = {}
  for name, trips in _runs(module):
    for line in module.computations[name]:
      parsed = _collective(line)
      if parsed is None:
        continue
      one = _describe(line, *parsed, trips, mesh, links)
      key = _identity(line)
      # One that runs beside a loop is spread over it in parts, all of one
      # channel: it runs as often as the part that runs least.
      if one and (key not in found or one.trips < found[key].trips):
        found[key] = one
  return sorted(found.values(), key=lambda one: -one.seconds)


def _identity(line: str) -> str:
  channel = _CHANNEL.search(line)
  return channel.group(1) if channel else line


def _describe(
  line: str, kind: str, size: int, trips: int, mesh: Mesh, links: Links
) -> Collective | None:
  """Reads one collective; None where no devices communicate."""
  group = _group(line, mesh.size)
  if len(group) < 2:
    return None
  if kind == 'reduce-scatter':
    size *= len(group)
  chips = [mesh.devices.flat[index].coords for index in group]
  source = _SOURCE.search(line)
  return Collective(
    kind,
    size,
    trips,
    _axis(group, mesh),
    len(group),
    trips * links.seconds(kind, size, chips),
    _short(source.group(1)) if source else '',
  )


@dataclasses.dataclass(frozen=True)
class _Module:
  entry: str
  computations: dict[str, list[str]]


def _read(text: str) -> _Module:
  """Splits a module into the lines of its computations."""
  computations, entry, name = {}, '', None
  for line in text.splitlines():
    if header := _HEADER.match(line):
      name = header.group(2)
      computations[name] = []
      entry = name if header.group(1) else entry
    elif line.startswith('}'):
      name = None
    elif name is not None:
      computations[name].append(line)
  return _Module(entry, computations)


def _said(name: str, module: _Module) -> int:
  """Bytes of all collectives of one run of a computation."""
  return sum(
    trips * parsed[1]
    for one, trips in _runs(module, name)
    for line in module.computations[one]
    if (parsed := _collective(line))
  )


def _runs(module: _Module, entry: str = '') -> Iterator[tuple[str, int]]:
  """Every computation that runs, with how often it does in a step.

  Of a conditional's branches it is the one that says least: the others are
  of the first steps.
  """
  waiting = [(entry or module.entry, 1)]
  while waiting:
    name, times = waiting.pop()
    yield name, times
    for line in module.computations[name]:
      called = dict(_CALLED.findall(line))
      branches = _BRANCHES.search(line)
      inner = [called[key] for key in called if key not in _NOT_RUN]
      if 'true_computation' in called:
        inner = [min(inner, key=lambda one: _said(one, module))]
      if branches:
        names = [b.strip().lstrip('%') for b in branches.group(1).split(',')]
        inner.append(min(names, key=lambda one: _said(one, module)))
      trips = _trips(line, called, module) if 'body' in called else 1
      waiting += [
        (one, times * trips) for one in inner if one in module.computations
      ]


def _trips(line: str, called: dict[str, str], module: _Module) -> int:
  """Reads how often a while loop runs: 1 where its bound is no constant."""
  if known := _TRIPS.search(line):
    return int(known.group(1))
  condition = '\n'.join(module.computations[called['condition']])
  bounds = re.findall(r'[su]32\[\]\S* constant\((\d+)\)', condition)
  return int(bounds[0]) if len(bounds) == 1 else 1


def _collective(line: str) -> tuple[str, int] | None:
  """Kind and bytes of the result, if a line is a collective's beginning."""
  match = _INSTRUCTION.match(line)
  if not match:
    return None
  result, operation = match.group(2), match.group(3)
  begins = operation.endswith('-start')
  kind = operation.removesuffix('-start')
  if kind not in _PASSES:
    return None
  sizes = [_size(*array) for array in _ARRAY.findall(result)]
  if begins and kind != 'all-reduce':  # operands come first, then results
    sizes = (
      sizes[len(sizes) // 2 :] if kind != 'collective-permute' else sizes[:1]
    )
  return kind, sum(sizes)


def _size(kind: str, shape: str) -> int:
  bits = re.search(r'\d+$', kind)
  width = _BYTES.get(kind) or max(int(bits.group()) // 8, 1) if bits else 1
  return width * math.prod(int(n) for n in shape.split(',') if n)


def _group(line: str, count: int) -> list[int]:
  """The first group's places in the mesh, in any of XLA's spellings."""
  if pairs := re.search(r'source_target_pairs=\{(.*?)\}\}', line):
    links = [tuple(map(int, p)) for p in re.findall(r'(\d+),(\d+)', pairs[0])]
    return list(next((pair for pair in links if pair[0] != pair[1]), ()))
  if named := re.search(r'replica_groups=mesh\[(.*?)\](.*?)\{(.*?)\}', line):
    sizes = {k: int(n) for k, n in re.findall(r"'([\w:()]+)'=(\d+)", named[1])}
    axes = re.findall(r"'([\w:()]+)'", named[3])
    return _first_group(list(sizes), list(sizes.values()), axes)
  if iota := re.search(
    r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', line
  ):
    groups, dims, order = (
      [int(n) for n in part.split(',')] if part else None
      for part in iota.groups()
    )
    places = np.arange(math.prod(dims)).reshape(dims)
    places = places.transpose(order) if order else places
    return places.reshape(groups)[0].tolist()
  if listed := re.search(r'replica_groups=\{\{([\d,]+)\}', line):
    return [int(n) for n in listed[1].split(',')]
  return list(range(count))


def _first_group(
  names: Sequence[str], sizes: Sequence[int], axes: Sequence[str]
) -> list[int]:
  places = np.arange(math.prod(sizes)).reshape(sizes)
  index = tuple(slice(None) if name in axes else 0 for name in names)
  return places[index].reshape(-1).tolist()


def _axis(group: Sequence[int], mesh: Mesh) -> str:
  """Names the mesh axes along which a group's places differ."""
  places = np.array(np.unravel_index(group, mesh.devices.shape))
  return '+'.join(
    name
    for name, along in zip(mesh.axis_names, places, strict=True)
    if len(set(along.tolist())) > 1
  )


def _short(source: str) -> str:
  """The last parts of an operation's path, without what wraps it."""
  parts = [p for p in source.split('/') if p not in _WRAPPERS]
  return '/'.join(parts[-3:])
