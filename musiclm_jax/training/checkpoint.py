"""Checkpoints: the whole TrainState, written aside and renamed when complete.

A checkpoint is one flat dict of arrays, `'params/lm/...' -> array`, kept by
Orbax under `<workdir>/checkpoints/<step>`; arrays are sharded and written by
all processes, while training goes on.
"""

import contextlib
import dataclasses
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.state import TrainState

KEEP = 3  # so that an older one is there when the newest is damaged
_FULL = (
  'No space left',
  'RESOURCE_EXHAUSTED',
  'Disk quota',
  'File too large',
  'Permission denied',
  'PERMISSION_DENIED',
  'Read-only file system',
)


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


class Checkpoints:
  """The checkpoints of one workdir."""

  def __init__(self, workdir: Path):
    """Opens the folder; what a killed run left half-written is removed."""
    self._folder = Path(workdir).absolute() / folder.CHECKPOINTS
    self._open()

  def _open(self) -> None:
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=KEEP, cleanup_tmp_directories=True
      ),
    )

  def save(self, state: TrainState) -> None:
    """Begins to write `state`; training may go on and donate it.

    Raises:
      UsageError: If this or the previous checkpoint cannot be written; the
        older ones stay.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    players = {
      'players': sorted(state.params),
      'collections': sorted(state.collections),
    }
    with self._refusing_full_disks(step):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(flatten(state)),
          names=ocp.args.JsonSave(players),
        ),
        force=True,
      )

  def wait(self) -> None:
    """Waits until all that was saved lies on the disk.

    Raises:
      UsageError: If it cannot be written.
    """
    with self._refusing_full_disks(None):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Ends the writing threads."""
    self._manager.close()

  def restore(
    self,
    abstract: TrainState,
    among: Callable[[int], bool] = lambda step: True,
  ) -> TrainState | None:
    """Reads the newest whole checkpoint, each leaf to where it belongs.

    A damaged one is put aside into `<workdir>/damaged` with a line on
    standard output, and the next older one is read.

    Args:
      abstract: Shapes, dtypes and shardings of the state.
      among: Which steps' checkpoints are looked at.

    Returns:
      The state, or None where there is no such checkpoint.

    Raises:
      UsageError: If there are checkpoints and all are damaged.
    """
    wanted = flatten(abstract)
    arguments = jax.tree.map(
      lambda leaf: ocp.ArrayRestoreArgs(
        sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype
      ),
      wanted,
    )
    damaged = []
    for step in sorted(filter(among, self._manager.all_steps()), reverse=True):
      try:
        leaves = _restore(self._manager, step, wanted, arguments)
      except Exception as error:
        print(_skipping(self._folder / str(step), error), flush=True)
        damaged.append(step)
        continue
      self._put_aside(damaged)
      return jax.tree.unflatten(
        jax.tree.structure(abstract), [leaves[name] for name in wanted]
      )
    if damaged:
      raise UsageError(_all_damaged(self._folder))
    return None

  def _put_aside(self, steps: list[int]) -> None:
    if not steps:
      return
    aside = self._folder.parent / 'damaged'
    if jax.process_index() == 0:
      aside.mkdir(exist_ok=True)
      for step in steps:
        shutil.rmtree(aside / str(step), ignore_errors=True)
        shutil.move(self._folder / str(step), aside / str(step))
    self._manager.reload()

  @contextlib.contextmanager
  def _refusing_full_disks(self, step: int | None) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      text = str(error)
      number = getattr(error, 'errno', None)
      if not isinstance(error, OSError) and not any(w in text for w in _FULL):
        raise
      reason = errno.errorcode.get(number, '') or next(
        (w for w in _FULL if w in text), type(error).__name__
      )
      for part in self._folder.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(part, ignore_errors=True)
      kept = sorted(int(p.name) for p in self._folder.glob('[0-9]*'))
      raise UsageError(
        f'cannot write a checkpoint to {self._folder} ({reason}): make room '
        f'or give another workdir; kept are the checkpoints of steps {kept}'
      ) from error


def read(workdir: str | Path) -> Checkpoint:
  """Reads the newest whole checkpoint of a workdir, for inference.

  Raises:
    UsageError: If the folder is no workdir or has no whole checkpoint.
  """
  workdir = Path(workdir).absolute()
  config = folder.read_config(workdir)
  checkpoints = workdir / folder.CHECKPOINTS
  steps = _complete(checkpoints)
  if not steps:
    raise UsageError(
      f'{workdir} has no checkpoint yet: train until the first save_every'
    )
  for step in steps:
    try:
      return _read_step(workdir, config, checkpoints / str(step), step)
    except Exception as error:
      print(_skipping(checkpoints / str(step), error), flush=True)
  raise UsageError(_all_damaged(checkpoints))


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


def _complete(checkpoints: Path) -> list[int]:
  """Steps of complete checkpoints, newest first."""
  if not checkpoints.is_dir():
    return []
  names = [p.name for p in checkpoints.iterdir() if p.name.isdigit()]
  return sorted(map(int, names), reverse=True)


def _read_step(
  workdir: Path, config: dict[str, Any], path: Path, step: int
) -> Checkpoint:
  with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
    names = reader.restore(path / 'names')
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
    stored = reader.metadata(path / 'state').item_metadata.tree
    averaged = any(name.startswith('ema_params/') for name in stored)
    source = 'ema_params' if averaged else 'params'
    wanted = {
      name: leaf
      for name, leaf in stored.items()
      if name.split('/')[0] in (source, 'collections')
    }
    leaves = reader.restore(
      path / 'state',
      args=ocp.args.PyTreeRestore(
        item=wanted,
        restore_args={
          name: ocp.RestoreArgs(restore_type=np.ndarray) for name in wanted
        },
        partial_restore=True,
      ),
    )
  tree = nest(leaves)
  params, moved = tree.get(source, {}), tree.get('collections', {})
  return Checkpoint(
    step=step,
    config=config,
    params={player: params.get(player, {}) for player in names['players']},
    collections={p: moved.get(p, {}) for p in names['collections']},
    contract_json=folder.read_contract(workdir),
  )


def _restore(
  manager: ocp.CheckpointManager, step: int, wanted: dict, arguments: dict
) -> dict[str, Any]:
  restored = manager.restore(
    step,
    args=ocp.args.Composite(
      state=ocp.args.PyTreeRestore(item=wanted, restore_args=arguments)
    ),
  )
  return restored.state


def _skipping(path: Path, error: Exception) -> str:
  first_line = (str(error).splitlines() or [''])[0]
  return f'skipping the damaged checkpoint {path}: {first_line[:200]}'


def _all_damaged(checkpoints: Path) -> str:
  return (
    f'every checkpoint in {checkpoints} is damaged: restore the folder from a '
    'copy, or remove it to begin again'
  )
