"""Sections of a config as they are stored: JSON -> arguments."""

from collections.abc import Mapping
from typing import Any


def arguments(section: Mapping[str, Any]) -> dict[str, Any]:
  """A section as keyword arguments; lists (JSON has no tuples) as tuples."""

  def freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
      return {key: freeze(inner) for key, inner in value.items()}
    return tuple(map(freeze, value)) if isinstance(value, list) else value

  return {key: freeze(value) for key, value in section.items()}


def in_float32(section: Mapping[str, Any]) -> dict[str, Any]:
  """A copy in which every `dtype` is float32."""
  return {
    key: in_float32(value)
    if isinstance(value, Mapping)
    else ('float32' if key == 'dtype' else value)
    for key, value in section.items()
  }
