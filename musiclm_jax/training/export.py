"""Exports: what a training has learned, in a file for another machine.

FILE, or FILE.1-of-3, FILE.2-of-3, FILE.3-of-3 where parts are asked for, which
are the file cut into pieces. It is one of safetensors, with arrays

  'params/<player>/…', 'ema_params/<player>/…', 'collections/<player>/…'

in bfloat16, integers as they are, and everything else in its metadata. The
optimizer's moments stay behind: they are twice as large in float32, and are
learned again in a warm-up.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.experimental import multihost_utils

from musiclm_jax.contracts import atomic_file, paths, tensor_file
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training.optimizer import at_step
from musiclm_jax.training.state import TrainState, flatten, start_from

_KINDS = ('params', 'ema_params', 'collections')
_KEY = 'musiclm_jax_export'  # of the metadata
_SCHEMA = 1
_MB = 10**6


@dataclasses.dataclass(frozen=True)
class Export:
  """What a file of `write` says.

  Attributes:
    step: Steps that the training has done.
    config: The resolved config of the training.
    params: Player -> parameters, as numpy arrays.
    ema_params: Their moving average; empty where there is none.
    collections: Player -> codebooks and statistics.
    contract_json: The token contract of an LM, else None.
    files: Name -> text, of what else the workdir holds that the network
      cannot do without, such as the vocabulary of a text tower.
  """

  step: int
  config: Mapping[str, Any]
  params: Mapping[str, PyTree]
  ema_params: Mapping[str, PyTree]
  collections: Mapping[str, PyTree]
  contract_json: str | None
  files: Mapping[str, str]


def write(
  path: Path,
  state: TrainState,
  *,
  config: Mapping[str, Any],
  contract_json: str | None = None,
  files: Mapping[str, str] | None = None,
  part_mb: float | None = None,
) -> list[Path]:
  """Writes what a training has learned; all processes must call it.

  Args:
    path: Of the file; an older export there is replaced.
    state: To be exported.
    config: Resolved.
    contract_json: Token contract of an LM.
    files: Of the workdir; see `Export`.
    part_mb: Largest part in 10^6 bytes; None writes one file.

  Returns:
    The files.

  Raises:
    OSError: Naming the file, if the disk does not take it.
  """
  from safetensors.numpy import save

  trees = {kind: getattr(state, kind) for kind in _KINDS}
  whole = {name: _to_host(leaf) for name, leaf in flatten(trees).items()}
  arrays = tensor_file.encode(whole, 'bfloat16')
  if jax.process_index():
    return []
  about = {
    'schema': _SCHEMA,
    'step': int(state.step),
    'config': dict(config),
    'players': {kind: sorted(tree) for kind, tree in trees.items()},
    'contract_json': contract_json,
    'files': dict(files or {}),
  }
  data = save(arrays, metadata={_KEY: json.dumps(about)})
  size = math.ceil(part_mb * _MB) if part_mb else len(data)
  count = math.ceil(len(data) / size)
  written = [path]
  if part_mb:
    written = [_part(path, k + 1, count) for k in range(count)]
  for k, part in enumerate(written):
    with atomic_file.atomic_open(part, 'wb') as file:
      file.write(data[k * size : (k + 1) * size])
  for other in {path, *_parts(path)} - set(written):
    other.unlink(missing_ok=True)  # of an export that is replaced
  return written


def check_out(path: Path) -> None:
  """Checks that an export can be written to `path`; leaves nothing there.

  Raises:
    UsageError: If not, or what is there is no export.
  """
  paths.check_file(path)
  there = [path] if path.exists() else _parts(path)[:1]
  if there and not is_export(there[0]):
    raise UsageError(
      f"'{there[0]}' is no export and is not replaced: choose another name"
    )


def is_export(path: Path) -> bool:
  """Whether a file, or its first part, begins as `write` began it."""
  first = [path] if path.is_file() else _parts(path)[:1]
  if not first or not first[0].is_file():
    return False
  with first[0].open('rb') as file:
    return f'"{_KEY}"'.encode() in file.read(256)


def read(path: Path) -> Export:
  """Reads what `write` wrote.

  Args:
    path: As it was given to `write`, whole or in parts.

  Raises:
    UsageError: If a part is missing, the file damaged or of another schema.
  """
  data = b''.join(part.read_bytes() for part in _all_parts(path))
  try:
    size = int.from_bytes(data[:8], 'little')
    about = json.loads(json.loads(data[8 : 8 + size])['__metadata__'][_KEY])
    arrays = tensor_file.read(data)
  except Exception as error:
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    raise UsageError(
      f"the export '{path}' is damaged ({first_line[:200]}): copy it again"
    ) from error
  if about['schema'] != _SCHEMA:
    raise UsageError(
      f"the export '{path}' has schema {about['schema']}, this version reads "
      f'{_SCHEMA}: use the version of musiclm_jax that wrote it'
    )
  found = unflatten_dict(arrays, sep='/')
  trees = {
    kind: {player: found.get(kind, {}).get(player, {}) for player in players}
    for kind, players in about['players'].items()
  }
  known = ('step', 'config', 'contract_json', 'files')
  return Export(**trees, **{name: about[name] for name in known})


def begin(state: TrainState, export: Export) -> TrainState:
  """Lets a state of no steps go on where an export ended.

  Raises:
    UsageError: As `state.start_from`, or if the export has no moving average
      and the training wants one, or the other way round.
  """
  if bool(state.ema_params) != bool(export.ema_params):
    raise UsageError(
      f'the export has {"a" if export.ema_params else "no"} moving average: '
      f'set --config.training.ema_decay as it was, '
      f'{export.config["training"]["ema_decay"]}'
    )
  placed = start_from(state, export.params, export.collections)
  if export.ema_params:
    averaged = start_from(state, export.ema_params, export.collections)
    placed = placed.replace(ema_params=averaged.params)
  step = jax.device_put(np.asarray(export.step, np.int32), state.step.sharding)
  return placed.replace(
    step=step, opt_state=at_step(state.opt_state, export.step)
  )


def _to_host(leaf: jax.Array) -> np.ndarray:
  """An array of all processes on this one."""
  if not leaf.is_fully_addressable:
    leaf = multihost_utils.process_allgather(leaf, tiled=True)
  return np.asarray(jax.device_get(leaf))


def _part(path: Path, number: int, count: int) -> Path:
  return path.with_name(f'{path.name}.{number}-of-{count}')


def _parts(path: Path) -> list[Path]:
  """The parts of an export that are there, in their order."""
  named = re.compile(re.escape(path.name) + r'\.(\d+)-of-\d+')
  beside = path.parent.iterdir() if path.parent.is_dir() else ()
  found = {p: named.fullmatch(p.name) for p in beside}
  numbers = {p: int(match[1]) for p, match in found.items() if match}
  return sorted(numbers, key=numbers.get)


def _all_parts(path: Path) -> list[Path]:
  """The file of an export, or all of its parts.

  Raises:
    UsageError: If they are not there.
  """
  if path.is_file():
    return [path]
  parts = _parts(path)
  if not parts:
    raise UsageError(f"there is no export '{path}'")
  count = int(parts[0].name.rpartition('-')[2])
  wanted = [_part(path, k + 1, count) for k in range(count)]
  if parts != wanted:
    missing = sorted({p.name for p in wanted} ^ {p.name for p in parts})
    raise UsageError(
      f"the export '{path}' has {len(parts)} parts, expected {count}: look for "
      + ', '.join(missing)
    )
  return parts
