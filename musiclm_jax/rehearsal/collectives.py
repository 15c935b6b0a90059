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
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jax.sharding import Mesh

from musiclm_jax.rehearsal.topology import Topology

Computations = Mapping[str, list[str]]  # name -> lines
Run = tuple[str, int]  # of a computation: name, how often

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
  computations = _read(text)
  found: dict[str, Collective] = {}
  for name, trips in _runs(computations):
    for line in computations[name]:
      one = _describe(line, trips, mesh, links)
      channel = _CHANNEL.search(line)
      key = channel.group(1) if channel else line
      # One that runs beside a loop is spread over it in parts, all of one
      # channel: it runs as often as the part that runs least.
      if one and (key not in found or one.trips < found[key].trips):
        found[key] = one
  return sorted(found.values(), key=lambda one: -one.seconds)


def _describe(
  line: str, trips: int, mesh: Mesh, links: Links
) -> Collective | None:
  """Reads one collective; None where no devices communicate."""
  kind, size = _collective(line)
  group = _group(line, mesh.size) if kind else []
  if len(group) < 2:
    return None
  if kind == 'reduce-scatter':
    size *= len(group)
  chips = [mesh.devices.flat[index].coords for index in group]
  places = np.array(np.unravel_index(group, mesh.devices.shape))
  axes = [
    name
    for name, along in zip(mesh.axis_names, places, strict=True)
    if len(set(along.tolist())) > 1
  ]
  source = _SOURCE.search(line)
  path = source.group(1).split('/') if source else []
  return Collective(
    kind,
    size,
    trips,
    '+'.join(axes),
    len(group),
    trips * links.seconds(kind, size, chips),
    '/'.join([part for part in path if part not in _WRAPPERS][-3:]),
  )


def _read(text: str) -> Computations:
  """Splits a module into the lines of its computations; '' is the entry."""
  computations, lines = {}, []
  for line in text.splitlines():
    if header := _HEADER.match(line):
      lines = []
      computations[header.group(2)] = lines
      if header.group(1):
        computations[''] = lines
    else:
      lines.append(line)
  return computations


def _runs(computations: Computations, name: str = '') -> Iterator[Run]:
  """Every computation that runs, with how often it does in a step.

  Of a conditional's branches it is the one that says least: the others are
  of the first steps.
  """

  def said(branch: str) -> int:
    """Bytes of all collectives of one run."""
    runs = _runs(computations, branch)
    return sum(
      n * _collective(line)[1] for one, n in runs for line in computations[one]
    )

  yield name, 1
  for line in computations[name]:
    called = dict(_CALLED.findall(line))
    branches = _BRANCHES.search(line)
    inner = [called[key] for key in called if key not in _NOT_RUN]
    if 'true_computation' in called:
      inner = [min(inner, key=said)]
    if branches:
      names = re.findall(r'[\w.-]+', branches.group(1))
      inner.append(min(names, key=said))
    trips = _trips(line, called, computations) if 'body' in called else 1
    for one in inner:
      if one in computations:
        for run, times in _runs(computations, one):
          yield run, times * trips


def _trips(
  line: str, called: Mapping[str, str], computations: Computations
) -> int:
  """Reads how often a while loop runs: 1 where its bound is no constant."""
  if known := _TRIPS.search(line):
    return int(known.group(1))
  condition = '\n'.join(computations[called['condition']])
  bounds = re.findall(r'[su]32\[\]\S* constant\((\d+)\)', condition)
  return int(bounds[0]) if len(bounds) == 1 else 1


def _collective(line: str) -> tuple[str, int]:
  """Kind and bytes of the result; '' and 0 if no collective begins here."""
  match = _INSTRUCTION.match(line)
  kind = match.group(3).removesuffix('-start') if match else ''
  if kind not in _PASSES:
    return '', 0
  sizes = [_size(*array) for array in _ARRAY.findall(match.group(2))]
  if match.group(3) != kind and kind != 'all-reduce':
    # Operands come first, then results.
    half = len(sizes) // 2
    sizes = sizes[:1] if kind == 'collective-permute' else sizes[half:]
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
    index = tuple(slice(None) if name in axes else 0 for name in sizes)
    places = np.arange(math.prod(sizes.values())).reshape(*sizes.values())
    return places[index].reshape(-1).tolist()
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
