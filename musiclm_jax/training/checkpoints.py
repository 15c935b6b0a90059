"""The checkpoints of a training: written aside, renamed when complete.

Arrays are sharded and written by all processes, while training goes on, and
read by any other number of processes and devices.
"""

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain, plain_file
from musiclm_jax.training import about, placement
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.checkpoint import (
  STATE,
  all_damaged,
  flatten,
  held_out,
  read_back,
  skipping,
)
from musiclm_jax.training.retention import KEEP, Retention
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
    self._folder.mkdir(parents=True, exist_ok=True)
    # Name -> shape of what was saved and has not been read back yet.
    self._unread: tuple[int, dict[str, tuple[int, ...]]] | None = None
    self._config, self._contract_json = dict(config), contract_json
    self._retention = Retention(plan.best, plan.keep_every)
    self._manager = ocp.CheckpointManager(
      plain(self._folder),
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

    The checkpoint before is read back first. Where that fails it is put aside
    and this one is waited for, so that two in a row end the run.

    Args:
      state: After any step; one that is there already stays as it is.
      held_out: Metrics of this step, empty where none were taken.

    Raises:
      UsageError: If this or the previous checkpoint cannot be written, or
        neither can be read; the older ones stay.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    with self._refusing_full_disks(step):
      self._manager.wait_until_finished()
    trouble = self._read_back()
    self._retention.metrics[step] = dict(held_out)
    leaves = flatten(state)
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
          state=ocp.args.PyTreeSave(leaves),
          about=about.save_args(described),
        ),
        force=True,
      )
    self._unread = step, {name: leaf.shape for name, leaf in leaves.items()}
    if trouble:
      print(trouble, flush=True)
      self.wait()

  def wait(self) -> None:
    """Waits until all that was saved lies on the disk and has been read back.

    Raises:
      UsageError: If it cannot be written or read.
    """
    with self._refusing_full_disks(None):
      self._manager.wait_until_finished()
    if trouble := self._read_back():
      raise UsageError(f'{trouble}; kept are those of steps {self._kept()}')

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
    damaged: list[int] = []
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
      self._retention.readable = step
      return jax.tree.unflatten(
        jax.tree.structure(abstract), [leaves[name] for name in wanted]
      )
    if damaged:
      raise UsageError(all_damaged(self._folder))
    return None

  def _read_back(self) -> str:
    """Reads what was saved last; puts it aside and says why if that fails.

    Each process reads its share of the arrays.
    """
    if self._unread is None:
      return ''
    (step, shapes), self._unread = self._unread, None
    path, reason = self._folder / str(step), ''
    share = sorted(shapes)[jax.process_index() :: jax.process_count()]
    try:
      read_back(path, {name: shapes[name] for name in share})
    except Exception as error:
      reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if np.all(multihost_utils.process_allgather(not reason)):
      self._retention.readable = step
      return ''
    self._put_aside([step])
    return (
      f'the checkpoint {path} cannot be read back'
      f'{f" ({reason})" if reason else ""} and was put aside into '
      f'{self._folder.parent / folder.DAMAGED}: look at the disk'
    )

  def _put_aside(self, steps: list[int]) -> None:
    """Moves checkpoints to where they are looked for no more, nor replaced."""
    if not steps:
      return
    aside = self._folder.parent / folder.DAMAGED
    if jax.process_index() == 0:
      aside.mkdir(exist_ok=True)
      for step in steps:
        names = (f'{step}{f"-{n}" if n else ""}' for n in itertools.count())
        free = next(n for n in names if not (aside / n).exists())
        (self._folder / str(step)).rename(aside / free)
    multihost_utils.sync_global_devices('damaged checkpoints are put aside')
    self._manager.reload()

  def _kept(self) -> list[int]:
    names = (path.name for path in self._folder.iterdir())
    return sorted(int(name) for name in names if name.isdigit())

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
      raise UsageError(
        f'cannot write a checkpoint to {self._folder} ({reason}): make room '
        f'or give another workdir; kept are the checkpoints of steps '
        f'{self._kept()}'
      ) from error


def check_room(workdir: Path, abstract: TrainState, plan: Schedule) -> None:
  """Checks that the checkpoints that will be kept fit on the disk.

  Args:
    workdir: Of the training.
    abstract: Shapes and dtypes of the state.
    plan: Of the training.

  Raises:
    UsageError: If they do not.
  """
  path = workdir / folder.CHECKPOINTS
  there = len(os.listdir(path)) if path.is_dir() else 0
  steps = filter(plan.saves, range(1, plan.total_steps + 1))
  saves = len(list(itertools.islice(steps, KEEP + 1)))  # one beside the kept
  each = placement.held(abstract)[0]
  paths.check_room(path, each * max(1, saves - there), 'checkpoints')


def _restore(path: Path, wanted: dict, arguments: dict) -> dict[str, Any]:
  """Reads this process's shards; it waits for no other process.

  Orbax's own `Checkpointer.restore` does, and would wait in vain for one that
  met a damaged file.
  """
  return ocp.PyTreeCheckpointHandler().restore(
    plain_file(path) / STATE,
    args=ocp.args.PyTreeRestore(item=wanted, restore_args=arguments),
  )
