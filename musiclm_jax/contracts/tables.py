"""Tables of what a config may name."""

from collections.abc import Mapping
from typing import Any

from musiclm_jax.contracts.errors import UsageError


def look_up(table: Mapping[str, Any], name: str, what: str) -> Any:
  """Takes an entry by the name that a config gives.

  Args:
    table: Of all that can be named.
    name: As the config has it.
    what: That is named.

  Raises:
    UsageError: If it is not there, with all that are.
  """
  if name not in table:
    raise UsageError(
      f"unknown {what} '{name}': choose one of {', '.join(table)}"
    )
  return table[name]
