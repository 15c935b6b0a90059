"""One checkpoint: a whole TrainState, and what it says of itself.

Orbax keeps it under `<workdir>/checkpoints/<step>`, as one flat dict of arrays
(`'params/lm/...' -> array`) in `state` and one JSON object in `about`.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain_file
from musiclm_jax.training import about
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.retention import Best

STATE = 'state'
_GROUP = 64  # arrays in memory at once while a checkpoint is checked


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
    candidates = _by_choice(checkpoints)
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


def flatten(state: PyTree) -> dict[str, Any]:
  """Names every leaf by its path: `'params/lm/decoder/kernel'`."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
  }


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """Undoes `flatten` for nested dicts."""
  tree: dict[str, Any] = {}
  for name, leaf in leaves.items():
    *parents, last = name.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree


def _by_choice(checkpoints: Path) -> list[Path]:
  """Complete checkpoints, the one to read first."""
  if not checkpoints.is_dir():
    return []
  names = [p.name for p in checkpoints.iterdir() if p.name.isdigit()]
  steps = sorted(map(int, names), reverse=True)
  paths = {step: checkpoints / str(step) for step in steps}
  if best := _best_of_newest(paths.values()):
    chosen = best.step({step: held_out(paths[step]) for step in steps})
    steps.sort(key=lambda step: step != chosen)
  return [paths[step] for step in steps]


def _best_of_newest(paths: Iterable[Path]) -> Best | None:
  """What the newest undamaged checkpoint's config calls best."""
  for path in paths:
    try:
      config = about.read(path).config
    except Exception:
      continue
    return Best.parse(config.get('schedule', {}).get('keep_best', ''))
  return None


def held_out(path: Path) -> Mapping[str, float]:
  """Held-out metrics of a checkpoint; a damaged one has none."""
  try:
    return about.read(path).metrics
  except Exception:
    return {}


def _read_step(path: Path) -> Checkpoint:
  described = about.read(path)
  state = plain_file(path) / STATE
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
  tree = nest(leaves)
  params, moved = tree.get(source, {}), tree.get('collections', {})
  return Checkpoint(
    step=int(path.name),
    config=dict(described.config),
    params={player: params.get(player, {}) for player in described.players},
    collections={p: moved.get(p, {}) for p in described.collections},
    contract_json=described.contract_json,
  )


def _as_numpy(wanted: Mapping[str, Any]) -> Any:
  """Orbax's argument to read these arrays, and no others, into memory."""
  return ocp.args.PyTreeRestore(
    item=dict(wanted),
    restore_args={
      name: ocp.RestoreArgs(restore_type=np.ndarray) for name in wanted
    },
    partial_restore=True,
  )


def read_back(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> None:
  """Reads arrays of a checkpoint, which proves that they can be read.

  It takes memory for `_GROUP` of them, and waits for no other process.

  Args:
    path: Of the checkpoint.
    wanted: Name -> shape, of the arrays to read.

  Raises:
    Exception: If one is missing, damaged or of another shape.
  """
  about.read(path)
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
