"""What chips can do: the one table of hardware constants.

Peaks are of dense bfloat16 products, in FLOP/s a chip; bandwidths in bytes/s.
A link's figure is one way. Sources: for TPUs the key specifications of
cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} (bidirectional interchip bandwidth
a chip / links / 2), for GPUs NVIDIA's data sheets without sparsity.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip, which is one device of jax.

  Attributes:
    name: As people say it.
    peak: FLOP/s of bfloat16 products.
    hbm_bytes: Memory that a program can use; what libtpu says of TPUs.
    hbm_bandwidth: Between memory and chip.
    link_bandwidth: Of one interconnect link, one way; 0.0 where unknown.
    torus_axes: Of the interconnect, two links each.
  """

  name: str
  peak: float
  hbm_bytes: float
  hbm_bandwidth: float
  link_bandwidth: float = 0.0
  torus_axes: int = 0


GiB = 2**30
# jax's device_kind -> chip.
CHIPS = {
  # 275 TFLOPS, 32 GiB at 1200 GB/s, 2400 Gbps one way over 6 links.
  'TPU v4': Chip('v4', 275e12, 30.75 * GiB, 1200e9, 50e9, 3),
  # 197 TFLOPS, 16 GiB at 819 GB/s, 1600 Gbps one way over 4 links.
  'TPU v5 lite': Chip('v5e', 197e12, 15.75 * GiB, 819e9, 50e9, 2),
  # 459 TFLOPS, 95 GB at 2765 GB/s, 1200 GB/s both ways over 6 links.
  'TPU v5': Chip('v5p', 459e12, 95.74 * GiB, 2765e9, 100e9, 3),
  # 918 TFLOPS, 32 GiB at 1638 GB/s, 800 GB/s both ways over 4 links.
  'TPU v6 lite': Chip('v6e', 918e12, 31.25 * GiB, 1638e9, 100e9, 2),
  'NVIDIA H100 80GB HBM3': Chip('H100', 989.4e12, 80e9, 3352e9),
  'NVIDIA H200': Chip('H200', 989.4e12, 141e9, 4800e9),
  'NVIDIA A100-SXM4-40GB': Chip('A100', 312e12, 40e9, 1555e9),
  'NVIDIA A100-SXM4-80GB': Chip('A100', 312e12, 80e9, 2039e9),
}


def chip_of(device: Any) -> Chip | None:
  """Finds the chip of a jax device; None where its peak is not known."""
  return CHIPS.get(device.device_kind)
