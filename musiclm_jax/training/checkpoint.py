"""One checkpoint: a whole TrainState and its metadata.

Orbax keeps it under `<workdir>/checkpoints/<step>`, as one flat dict of arrays
(`'params/lm/...' -> array`) in `state` and one JSON object in `about`.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain_file
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.schedule import Best

STATE, METADATA = 'state', 'about'  # names of the items on disk
# 1 had the players alone, in `names`; config and contract lay in the workdir,
# and the state did not know `rolled_back`: it is read, but not continued.
SCHEMA = 2
_FIRST = 'names'
_GROUP = 64  # arrays in memory at once while a checkpoint is checked


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What must be known to use a checkpoint without anything beside it.

  Attributes:
    players: Those with parameters, some perhaps without arrays.
    collections: Those with codebooks and statistics.
    config: The resolved config of the training.
    contract_json: The token contract of an LM, else None.
    metrics: Held-out metrics of its step, where they were taken.
    schema: Of the checkpoint.
  """

  players: tuple[str, ...]
  collections: tuple[str, ...]
  config: Mapping[str, Any]
  contract_json: str | None
  metrics: Mapping[str, float]
  schema: int = SCHEMA


@dataclasses.dataclass(frozen=True)
class Checkpoint:
  """What inference needs of a training.

  Attributes:
    step: Of the checkpoint.
    config: The resolved config of the training.
    params: Player -> parameters (their moving average where there is one), as
      numpy arrays.
    collections: Player -> codebooks and statistics, as numpy arrays.
    contract_json: The token contract of an LM, else None.
  """

  step: int
  config: dict[str, Any]
  params: dict[str, PyTree]
  collections: dict[str, PyTree]
  contract_json: str | None


def read(path: str | Path) -> Checkpoint:
  """Reads a whole checkpoint, for inference.

  Where the config names a held-out metric in `schedule.keep_best`, the best
  one by it; else, or where that is damaged, the newest.

  Args:
    path: A workdir, or one of its `checkpoints/<step>`.

  Raises:
    UsageError: If it is no workdir or has no whole checkpoint.
  """
  path = Path(path).absolute()
  if path.parent.name == folder.CHECKPOINTS and path.name.isdigit():
    candidates, checkpoints = [path], path.parent
  else:
    checkpoints = path / folder.CHECKPOINTS
    candidates = _best_first(checkpoints)
  if not candidates:
    folder.read_config(path)
    raise UsageError(
      f'{path} has no checkpoint yet: train until the first save_every'
    )
  for candidate in candidates:
    try:
      return _read_step(candidate)
    except UsageError:
      raise
    except Exception as error:
      print(skipping(candidate, error), flush=True)
  raise UsageError(all_damaged(checkpoints))


def read_metadata(path: Path) -> Metadata:
  """Reads what the checkpoint in `<workdir>/checkpoints/<step>` says.

  Raises:
    UsageError: If its schema is not one that this version reads.
    Exception: If it is damaged.
  """
  handler, given = ocp.JsonCheckpointHandler(), plain_file(path)
  if not (path / METADATA).exists() and (path / _FIRST).exists():
    return Metadata(
      **handler.restore(given / _FIRST),
      config=folder.read_config(path.parents[1]),
      contract_json=folder.read_contract(path.parents[1]),
      metrics={},
      schema=1,
    )
  stored = handler.restore(given / METADATA)
  if stored['schema'] != SCHEMA:
    raise UsageError(
      f'the checkpoint {path} has schema {stored["schema"]}, this version '
      f'reads up to {SCHEMA}: use the version of musiclm_jax that wrote it, '
      'or another workdir'
    )
  return Metadata(**stored)


def steps_in(checkpoints: Path) -> list[int]:
  """Steps of the complete checkpoints of a folder, newest first."""
  if not checkpoints.is_dir():
    return []
  names = (path.name for path in checkpoints.iterdir())
  return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def read_back(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
  """Reads arrays of a checkpoint, which proves that they can be read.

  It takes memory for `_GROUP` of them, and waits for no other process.

  Args:
    path: Of the checkpoint.
    wanted: Name -> shape, of the arrays to read.

  Raises:
    Exception: If one is missing, damaged or of another shape.
  """
  read_metadata(path)
  handler, state = ocp.PyTreeCheckpointHandler(), plain_file(path) / STATE
  names = iter(wanted)
  while group := list(itertools.islice(names, _GROUP)):
    found = handler.restore(state, args=_as_numpy(dict.fromkeys(group, 0)))
    for name in group:
      if np.shape(found[name]) != wanted[name]:
        raise ValueError(
          f'{name} has shape {np.shape(found[name])}, not {wanted[name]}'
        )


def skipping(path: Path, error: Exception) -> str:
  """The line about a checkpoint that is passed over."""
  first_line = (str(error).splitlines() or [''])[0]
  return f'skipping the damaged checkpoint {path}: {first_line[:200]}'


def all_damaged(checkpoints: Path) -> str:
  """The line about a folder without a whole checkpoint."""
  return (
    f'no checkpoint in {checkpoints} can be read: restore that folder from a '
    'copy, or give another --workdir to begin again'
  )


def _best_first(checkpoints: Path) -> list[Path]:
  """Complete checkpoints, the one to read first.

  What is best is said by the config of the newest undamaged one.
  """
  paths = [checkpoints / str(step) for step in steps_in(checkpoints)]
  known = {}
  for path in paths:
    with contextlib.suppress(Exception):
      known[int(path.name)] = read_metadata(path)
  newest = next(iter(known.values()), None)
  schedule = newest.config.get('schedule', {}) if newest else {}
  if best := Best.parse(schedule.get('keep_best', '')):
    chosen = best.step({step: said.metrics for step, said in known.items()})
    paths.sort(key=lambda path: path.name != str(chosen))
  return paths


def _read_step(path: Path) -> Checkpoint:
  metadata, state = read_metadata(path), plain_file(path) / STATE
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    stored = reader.metadata(state).item_metadata.tree
    averaged = any(name.startswith('ema_params/') for name in stored)
    source = 'ema_params' if averaged else 'params'
    wanted = {
      name: leaf
      for name, leaf in stored.items()
      if name.split('/')[0] in (source, 'collections')
    }
    leaves = reader.restore(state, args=_as_numpy(wanted))
  tree = unflatten_dict(leaves, sep='/')
  params, moved = tree.get(source, {}), tree.get('collections', {})
  return Checkpoint(
    step=int(path.name),
    config=dict(metadata.config),
    params={player: params.get(player, {}) for player in metadata.players},
    collections={p: moved.get(p, {}) for p in metadata.collections},
    contract_json=metadata.contract_json,
  )


def _as_numpy(wanted: Mapping[str, Any]) -> Any:
  """Orbax's argument to read these arrays, and no others, into memory."""
  as_array = ocp.RestoreArgs(restore_type=np.ndarray)
  return ocp.args.PyTreeRestore(
    item=dict(wanted),
    restore_args=dict.fromkeys(wanted, as_array),
    partial_restore=True,
  )
