"""TPU slices by name: `v5e-256` or `v5e:16x16` -> devices that are not there.

A cloud's v4-N and v5p-N count TensorCores, two a chip; v5e-N and v6e-N chips.
"""

import dataclasses
import math
import re
from typing import Any

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training.speed import Chip, chip_of

_PLANES = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_CUBES = ('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8')
_CUBES += ('8x8x8', '8x8x16', '8x16x16')
_SHAPES = {'v4': _CUBES, 'v5p': _CUBES, 'v5e': _PLANES, 'v6e': _PLANES}
_CORES = {'v4': 2, 'v5p': 2}
# Of v4: both cores of a chip as one device.
_OPTIONS = {'v4': {'chip_config_name': 'megacore'}}


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice.

  Attributes:
    name: As the cloud spells it.
    shape: Chips along the axes of its torus or mesh.
    devices: jax's descriptions of them, one a chip.
    chip: What each can do.
  """

  name: str
  shape: tuple[int, ...]
  devices: tuple[Any, ...]
  chip: Chip


def spellings() -> dict[str, str]:
  """Every slice that can be named: `v5e-256` -> `v5e:16x16`."""
  return {
    f'{kind}-{math.prod(_parse(shape)) * _CORES.get(kind, 1)}': (
      f'{kind}:{shape}'
    )
    for kind, shapes in _SHAPES.items()
    for shape in shapes
  }


def open_topology(name: str) -> Topology:
  """Describes a slice; needs libtpu and no TPU.

  Args:
    name: `v5e-256` or `v5e:16x16`.

  Raises:
    UsageError: If there is no such slice, or libtpu is missing.
  """
  known = spellings()
  layout = known.get(name, name)
  match = re.fullmatch(r'(v\d\w?):(\d+(?:x\d+)+)', layout)
  kind, shape = match.groups() if match else ('', '')
  axes = _SHAPES.get(kind, ('',))[0].count('x')
  if not axes or shape.count('x') != axes:
    raise UsageError(
      f"there is no topology '{name}': choose one of {', '.join(known)}, or "
      'give chips along axes like v5e:16x16'
    )
  try:
    import libtpu  # noqa: F401
  except ImportError as error:
    raise UsageError(
      'a topology needs libtpu, which is not installed: pip install '
      "'musiclm_jax[tpu]'"
    ) from error
  import jax
  from jax.experimental import topologies

  try:
    devices = topologies.get_topology_desc(
      platform='tpu', topology_name=layout, **_OPTIONS.get(kind, {})
    ).devices
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).splitlines()[0]
    raise UsageError(
      f"libtpu knows no topology '{layout}' ({reason}): choose one of "
      f'{", ".join(known)}'
    ) from error
  by_layout = {value: key for key, value in known.items()}
  return Topology(
    by_layout.get(layout, layout),
    _parse(shape),
    tuple(devices),
    chip_of(devices[0]),
  )


def _parse(shape: str) -> tuple[int, ...]:
  return tuple(int(size) for size in shape.split('x'))
