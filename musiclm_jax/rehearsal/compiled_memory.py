"""What a program needs on a chip: XLA's own account, or its refusal."""

import dataclasses
import re
from typing import Any

_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_SIZE = r'([\d.]+)([KMGT]?)B?'
# Two ways in which XLA refuses a program of too much memory.
_USED = re.compile(rf'Used {_SIZE} of {_SIZE} hbm')
_REQUIRED = re.compile(rf'\({_SIZE}\) exceeds available HBM \({_SIZE}\)')


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one chip.

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


def of_compiled(compiled: Any) -> Memory:
  """Reads the account of an executable."""
  account = compiled.memory_analysis()
  results = account.output_size_in_bytes - account.alias_size_in_bytes
  return Memory(
    account.argument_size_in_bytes
    + account.temp_size_in_bytes
    + results
    + account.generated_code_size_in_bytes,
    account.argument_size_in_bytes,
    account.temp_size_in_bytes,
    account.peak_memory_in_bytes,
  )


def of_refusal(message: str) -> Memory | None:
  """Reads the figures of a RESOURCE_EXHAUSTED; None if it is of HBM not."""
  match = _USED.search(message) or _REQUIRED.search(message)
  if match is None:
    return None
  used, used_unit, limit, limit_unit = match.groups()
  return Memory(
    round(float(used) * _UNITS[used_unit]),
    limit=round(float(limit) * _UNITS[limit_unit]),
  )
