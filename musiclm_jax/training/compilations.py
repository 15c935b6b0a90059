"""Counts what XLA compiles, so that a step that compiles again is seen."""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import jax

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.training.checkpoint import flatten

_EVENT = '/jax/core/compile/backend_compile_duration'
_NAMED = 3  # of the arguments that differ


class Compilations:
  """How often each jitted function was compiled since the block began."""

  def __init__(self):
    self._counts: collections.Counter[str] = collections.Counter()

  def __enter__(self) -> 'Compilations':
    jax.monitoring.register_event_duration_secs_listener(self._hear)
    return self

  def __exit__(self, *_: object) -> None:
    jax.monitoring.unregister_event_duration_listener(self._hear)

  def of(self, function: Callable) -> int:
    """Counts the compilations of a jitted function, known by its name."""
    return self._counts[f'jit({function.__name__})']

  def _hear(
    self, event: str, duration: float, fun_name: str = '', **_: object
  ) -> None:
    self._counts[fun_name] += event == _EVENT


def describe(arguments: PyTree) -> dict[str, tuple[str, Any]]:
  """Name of each array -> its type and its sharding, all that jit looks at.

  Arrays that were donated are described too.
  """
  return {
    name: (_type(array), getattr(array, 'sharding', None))
    for name, array in flatten(arguments).items()
  }


def differences(old: Mapping[str, tuple], new: Mapping[str, tuple]) -> str:
  """Says in words which arrays are not what they were, the first of them."""
  found = []
  for name in sorted(old.keys() | new.keys(), key=_batch_first):
    was, now = (each.get(name, ('nothing', None)) for each in (old, new))
    if was[0] != now[0]:
      found.append(f'{name} came as {now[0]}, not {was[0]}')
    elif was[1] != now[1]:
      found.append(f'{name} lies as {now[1]}, not as {was[1]}')
  more = len(found) - _NAMED
  said = ', '.join(found[:_NAMED]) or 'its arguments are what they were'
  return said + (f' and {more} more' if more > 0 else '')


def _type(array: Any) -> str:
  aval = jax.typeof(array)
  weak = 'weakly typed ' if getattr(aval, 'weak_type', False) else ''
  return f'{weak}{aval.dtype}{list(aval.shape)}'


def _batch_first(name: str) -> tuple[bool, str]:
  return not name.startswith('batch'), name
