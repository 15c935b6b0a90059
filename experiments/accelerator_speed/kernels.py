"""What a GPU's kernels are and take, read from jax's profile of one step."""

import collections
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax

# A kind by what a kernel's name contains; the first one counts.
KINDS = {
  'attention': ('sdpa', 'fmha', 'matmul_dq'),
  'convolutions': (
    'conv',
    'dgrad',
    'wgrad',
    'fprop',
    'implicit',
    'cudnn',
    'xmma',
    'nhwc',
    'nchw',
  ),
  'products': ('nvjet', 'gemm', 'cutlass', 'cublas', 'dot', 'gemv', 'splitk'),
  'transforms': ('fft',),
  'copies': ('memcpy', 'memset', 'copy', 'transpose', 'dynamic', 'concat'),
  'sums': ('reduce',),
  'elementwise': ('',),
}


@dataclasses.dataclass(frozen=True)
class Kernels:
  """The kernels of a step.

  Attributes:
    named: Kernel -> its seconds.
    count: How many ran.
  """

  named: dict[str, float]
  count: int

  @property
  def total(self) -> float:
    """Seconds of all."""
    return sum(self.named.values())

  def shares(self) -> dict[str, float]:
    """Kind -> share of the kernels' time, the largest first."""
    spent: collections.Counter = collections.Counter()
    for name, seconds in self.named.items():
      spent[kind_of(name)] += seconds
    return {
      kind: round(seconds / self.total, 3)
      for kind, seconds in spent.most_common()
    }


def kind_of(name: str) -> str:
  """Tells the kind of a kernel by its name."""
  name = name.lower()
  return next(
    kind for kind, parts in KINDS.items() if any(p in name for p in parts)
  )


def kernel_times(step: Callable[[], None]) -> Kernels:
  """Profiles one step; nothing is found where the profiler names no kernels."""
  spent: collections.Counter = collections.Counter()
  count = 0
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      step()
    for path in Path(folder).rglob('*.xplane.pb'):
      for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        if 'GPU' not in plane.name:
          continue
        for line in plane.lines:
          if line.name.startswith('Stream'):
            for event in line.events:
              spent[event.name] += event.duration_ns / 1e9
              count += 1
  return Kernels(dict(spent), count)
