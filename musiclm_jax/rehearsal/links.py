"""Time on the interconnect: bytes of a collective -> seconds.

A collective over k axes of the torus uses all of their links: two a chip and
axis where the axis closes into a ring, one direction each. On an axis that
does not close, the chips at its ends have one link.
"""

import dataclasses
from collections.abc import Sequence

from musiclm_jax.rehearsal.topology import Topology

# Bytes that pass a chip, as shares of the whole array, for n chips.
_PASSES = {
  'all-reduce': lambda n: 2 * (n - 1) / n,
  'all-gather': lambda n: (n - 1) / n,
  'reduce-scatter': lambda n: (n - 1) / n,
  'all-to-all': lambda n: (n - 1) / n,
  'collective-permute': lambda n: 1.0,
}


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
