"""Counts what XLA compiles, so that a step that compiles again is seen."""

from collections.abc import Mapping

import jax

from musiclm_jax.contracts.array_types import PyTree

_EVENT = '/jax/core/compile/backend_compile_duration'


class Compilations:
  """The number of compilations since the block began, of any function."""

  def __init__(self):
    self.count = 0

  def __enter__(self) -> 'Compilations':
    jax.monitoring.register_event_duration_secs_listener(self._hear)
    return self

  def __exit__(self, *_: object) -> None:
    jax.monitoring.unregister_event_duration_listener(self._hear)

  def _hear(self, event: str, duration: float, **_: object) -> None:
    self.count += event == _EVENT


def differing_shapes(old: Mapping[str, PyTree], new: Mapping) -> str:
  """Says which arrays of a batch changed shape or dtype, or that none did."""
  found = [
    f'{name} came as {_shape(new.get(name))}, not {_shape(old.get(name))}'
    for name in sorted(old.keys() | new.keys())
    if _shape(old.get(name)) != _shape(new.get(name))
  ]
  return ', '.join(found) or 'the shapes of its batch are those of before'


def _shape(array: PyTree) -> str:
  return 'nothing' if array is None else f'{array.dtype}{list(array.shape)}'
