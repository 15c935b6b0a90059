"""The checkpoints of a training: written aside, renamed when complete.

Arrays are sharded and written by all processes, while training goes on, and
read by any other number of processes and devices.
"""

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import about
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.checkpoint import (
  all_damaged,
  flatten,
  held_out,
  skipping,
)
from musiclm_jax.training.retention import Retention
from musiclm_jax.training.schedule import Schedule
from musiclm_jax.training.state import TrainState

_FULL = (
  'No space left',
  'RESOURCE_EXHAUSTED',
  'Disk quota',
  'File too large',
  'Permission denied',
  'PERMISSION_DENIED',
  'Read-only file system',
)


class Checkpoints:
  """The checkpoints of one workdir."""

  def __init__(
    self,
    workdir: Path,
    config: Mapping[str, Any],
    contract_json: str | None,
    plan: Schedule,
  ):
    """Opens the folder; what a killed run left half-written is removed.

    Args:
      workdir: Of the training.
      config: Resolved, for every checkpoint to carry.
      contract_json: Token contract of an LM, likewise.
      plan: Says which checkpoints stay.
    """
    self._folder = Path(workdir).absolute() / folder.CHECKPOINTS
    self._config, self._contract_json = dict(config), contract_json
    self._retention = Retention(plan.best, plan.keep_every)
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self._retention, cleanup_tmp_directories=True
      ),
    )
    self._retention.metrics |= {
      step: held_out(self._folder / str(step))
      for step in self._manager.all_steps()
    }

  def save(self, state: TrainState, held_out: Mapping[str, float]) -> None:
    """Begins to write `state`; training may go on and donate it.

    Args:
      state: After any step; one that is there already stays as it is.
      held_out: Metrics of this step, empty where none were taken.

    Raises:
      UsageError: If this or the previous checkpoint cannot be written; the
        older ones stay.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    self._retention.metrics[step] = dict(held_out)
    described = about.About(
      players=tuple(sorted(state.params)),
      collections=tuple(sorted(state.collections)),
      config=self._config,
      contract_json=self._contract_json,
      metrics=dict(held_out),
    )
    with self._refusing_full_disks(step):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(flatten(state)),
          about=about.save_args(described),
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
    """Waits for what is being written and ends the writing threads.

    Raises:
      UsageError: If it cannot be written.
    """
    with self._refusing_full_disks(None):
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
      UsageError: If there are checkpoints and all are damaged, or one has
        another schema.
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
      path, leaves = self._folder / str(step), None
      try:
        about.read(path).check_continuable(path)
        leaves = _restore(path, wanted, arguments)
      except UsageError:
        raise
      except Exception as error:
        print(skipping(path, error), flush=True)
      # A file may be damaged that only one process reads.
      if not np.all(multihost_utils.process_allgather(leaves is not None)):
        damaged.append(step)
        continue
      self._put_aside(damaged)
      return jax.tree.unflatten(
        jax.tree.structure(abstract), [leaves[name] for name in wanted]
      )
    if damaged:
      raise UsageError(all_damaged(self._folder))
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
    multihost_utils.sync_global_devices('damaged checkpoints are put aside')
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


def _restore(path: Path, wanted: dict, arguments: dict) -> dict[str, Any]:
  """Reads this process's shards; it waits for no other process.

  Orbax's own `Checkpointer.restore` does, and would wait in vain for one that
  met a damaged file.
  """
  return ocp.PyTreeCheckpointHandler().restore(
    path / 'state',
    args=ocp.args.PyTreeRestore(item=wanted, restore_args=arguments),
  )
