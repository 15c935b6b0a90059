"""Finished parts of a long job, kept so that an interruption costs little.

<folder>/0000-<process>.npz   key; '<part>/<array>' -> array

What a part is made of must be in its name or in the key. The folder is removed
when the work is done.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import DAMAGED_NPZ

SAVE_SECONDS = 30.0
_KEY = 'key'
_FILES = '[0-9]*-[0-9]*.npz'

Arrays = Mapping[str, np.ndarray]
Keep = Callable[[str, Callable[[], Arrays]], Arrays]  # `KeptParts.__call__`


def unkept(part: str, make: Callable[[], Arrays]) -> Arrays:
  """Makes a part and keeps nothing."""
  del part
  return make()


def holds(keep: Keep, part: str) -> bool:
  """Whether a part is there, so that `keep` does not make it."""
  return isinstance(keep, KeptParts) and part in keep


class KeptParts:
  """A dictionary of finished parts that outlives an interruption.

  Used as a context, which holds the folder for this run alone: when the work is
  done the folder is removed, at an error or an interruption what is not on the
  disk yet is put there.
  """

  def __init__(self, folder: Path, key: str):
    """Takes the place of the parts.

    Args:
      folder: Of the parts and nothing else.
      key: Of everything that all parts depend on: parts of another key are
        not used.
    """
    self._folder, self._key = folder, key
    self._place: dict[str, Path] = {}
    self._fresh: dict[str, Arrays] = {}
    self._saved = time.monotonic()
    self._held = contextlib.ExitStack()

  def __contains__(self, part: str) -> bool:
    """Whether a part is there."""
    return part in self._fresh or part in self._place

  def __call__(self, part: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns a part, which is made where it is not there yet."""
    if part in self._fresh:
      return self._fresh[part]
    if part in self._place:
      return _read(self._place[part], part)
    made = self._fresh[part] = make()
    if time.monotonic() - self._saved > SAVE_SECONDS:
      self._save()
    return made

  def __enter__(self) -> 'KeptParts':
    """Opens what an interrupted run has kept.

    Raises:
      UsageError: If another run does the same work.
    """
    self._held.enter_context(ownership.lock(self._folder, 'at work in'))
    for path in sorted(self._folder.glob(_FILES)):
      self._place |= dict.fromkeys(_parts(path, self._key), path)
    return self

  def __exit__(self, kind: type | None, *rest: Any) -> None:
    with contextlib.suppress(OSError):  # a full disk, which is said already
      if kind is not None:
        self._save()
      else:
        for path in self._folder.glob(_FILES):
          path.unlink()
      self._folder.rmdir()  # if nothing is in it
    self._held.__exit__(kind, *rest)

  def _save(self) -> None:
    if not self._fresh:
      return
    number = len(list(self._folder.glob(_FILES)))
    path = self._folder / f'{number:04}-{os.getpid()}.npz'
    arrays = {
      f'{part}/{name}': array
      for part, arrays in self._fresh.items()
      for name, array in arrays.items()
    }
    with atomic_file.atomic_open(path, 'wb') as file:
      np.savez(file, **{_KEY: np.array(self._key)}, **arrays)
    self._place |= dict.fromkeys(self._fresh, path)
    self._fresh, self._saved = {}, time.monotonic()


def _parts(path: Path, key: str) -> set[str]:
  """The parts in a file; none where it is damaged or of another key."""
  try:
    with np.load(path, allow_pickle=False) as file:
      if str(file[_KEY]) != key or file.zip.testzip():
        return set()
      return {entry.rpartition('/')[0] for entry in file.files} - {''}
  except DAMAGED_NPZ:
    return set()


def _read(path: Path, part: str) -> dict[str, np.ndarray]:
  with np.load(path, allow_pickle=False) as file:
    entries = [entry.rpartition('/') for entry in file.files]
    return {
      name: file[f'{part}/{name}'] for of, _, name in entries if of == part
    }
