"""The checkpoints of a training: written aside, renamed when complete.

Arrays are sharded and written by all processes, while training goes on, and
read by any other number of processes and devices.
"""

import contextlib
import dataclasses
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain, plain_file
from musiclm_jax.training import checkpoint
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.checkpoint import METADATA, STATE
from musiclm_jax.training.schedule import Best, Schedule
from musiclm_jax.training.sharding_report import held
from musiclm_jax.training.state import TrainState, flatten

Metrics = Mapping[str, float]
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


@dataclasses.dataclass
class BestAndReadable:
  """Orbax's `PreservationPolicy` for what its own ones do not know.

  `BestN` ranks by metrics that Orbax stored; ours are in the metadata, and a
  run that goes on must rank those that its earlier part stored.

  Attributes:
    best: Whose best checkpoint stays, or None.
    metrics: Step -> held-out metrics, of every checkpoint that has some.
    readable: The newest checkpoint that has been read, which stays as well.
  """

  best: Best | None = None
  metrics: dict[int, Metrics] = dataclasses.field(default_factory=dict)
  readable: int | None = None

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    """Says of each checkpoint, oldest first, whether it stays."""
    del context
    rows = {c.step: self.metrics.get(c.step, {}) for c in checkpoints}
    best = self.best.step(rows) if self.best else None
    return [step in (self.readable, best) for step in rows]


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
    self._kept = BestAndReadable(plan.best)
    kept = [policies.LatestN(KEEP), self._kept]
    if plan.keep_every:
      kept.append(policies.EveryNSteps(plan.keep_every))
    self._manager = ocp.CheckpointManager(
      plain(self._folder),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        cleanup_tmp_directories=True,
      ),
    )
    for step in self._manager.all_steps():
      with contextlib.suppress(Exception):  # a damaged one has none
        metadata = checkpoint.read_metadata(self._path(step))
        self._kept.metrics[step] = metadata.metrics

  def save(self, state: TrainState, held_out: Metrics) -> None:
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
    with self._refusing_full_disks():
      self._manager.wait_until_finished()
    trouble = self._read_back()
    self._kept.metrics[step] = dict(held_out)
    leaves = flatten(state)
    metadata = checkpoint.Metadata(
      players=tuple(sorted(state.params)),
      collections=tuple(sorted(state.collections)),
      config=self._config,
      contract_json=self._contract_json,
      metrics=dict(held_out),
    )
    items = {
      STATE: ocp.args.PyTreeSave(leaves),
      METADATA: ocp.args.JsonSave(dataclasses.asdict(metadata)),
    }
    with self._refusing_full_disks():
      self._manager.save(step, args=ocp.args.Composite(**items), force=True)
    self._unread = step, {name: leaf.shape for name, leaf in leaves.items()}
    if trouble:
      print(trouble, flush=True)
      self.wait()

  def wait(self) -> None:
    """Waits until all that was saved lies on the disk and has been read back.

    Raises:
      UsageError: If it cannot be written or read.
    """
    with self._refusing_full_disks():
      self._manager.wait_until_finished()
    if trouble := self._read_back():
      raise UsageError(f'{trouble}; kept are those of steps {self._steps()}')

  def close(self) -> None:
    """Waits for what is being written and ends the writing threads.

    Raises:
      UsageError: If it cannot be written.
    """
    with self._refusing_full_disks():
      self._manager.close()

  def restore(
    self, abstract: TrainState, among: Callable[[int], bool] = lambda step: True
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
    arguments = ocp.checkpoint_utils.construct_restore_args(wanted)
    arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=arguments)
    damaged: list[int] = []
    for step in sorted(filter(among, self._manager.all_steps()), reverse=True):
      path, leaves = self._path(step), None
      try:
        _check_continuable(path)
        # Orbax's own `Checkpointer` waits for the other processes, in vain
        # where one of them met a damaged file.
        state, handler = plain_file(path) / STATE, ocp.PyTreeCheckpointHandler()
        leaves = handler.restore(state, args=arguments)
      except UsageError:
        raise
      except Exception as error:
        print(checkpoint.skipping(path, error), flush=True)
      # A file may be damaged that only one process reads.
      if not np.all(multihost_utils.process_allgather(leaves is not None)):
        damaged.append(step)
        continue
      self._put_aside(damaged)
      self._kept.readable = step
      return jax.tree.unflatten(
        jax.tree.structure(abstract), [leaves[name] for name in wanted]
      )
    if damaged:
      raise UsageError(checkpoint.all_damaged(self._folder))
    return None

  def _read_back(self) -> str:
    """Reads what was saved last; puts it aside and says why if that fails.

    Each process reads its share of the arrays.
    """
    if self._unread is None:
      return ''
    (step, shapes), self._unread = self._unread, None
    path, reason = self._path(step), ''
    share = sorted(shapes)[jax.process_index() :: jax.process_count()]
    try:
      checkpoint.read_back(path, {name: shapes[name] for name in share})
    except Exception as error:
      reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if np.all(multihost_utils.process_allgather(not reason)):
      self._kept.readable = step
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
        self._path(step).rename(aside / free)
    multihost_utils.sync_global_devices('damaged checkpoints are put aside')
    self._manager.reload()

  def _steps(self) -> list[int]:
    return checkpoint.steps_in(self._folder)[::-1]

  def _path(self, step: int) -> Path:
    return self._folder / str(step)

  @contextlib.contextmanager
  def _refusing_full_disks(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      full = next((words for words in _FULL if words in str(error)), None)
      if not isinstance(error, OSError) and full is None:
        raise
      number = getattr(error, 'errno', None)
      reason = errno.errorcode.get(number) or full or type(error).__name__
      for part in self._folder.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(part, ignore_errors=True)
      raise UsageError(
        f'cannot write a checkpoint to {self._folder} ({reason}): make room '
        f'or give another workdir; kept are the checkpoints of steps '
        f'{self._steps()}'
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
  each = held(abstract)[0]
  paths.check_room(path, each * max(1, saves - there), 'checkpoints')


def _check_continuable(path: Path) -> None:
  """Refuses a checkpoint that an older version wrote."""
  schema = checkpoint.read_metadata(path).schema
  if schema != checkpoint.SCHEMA:
    raise UsageError(
      f'the checkpoint {path} has schema {schema}, from which this version '
      f'reads weights but does not go on ({checkpoint.SCHEMA} is needed): '
      'give another --workdir, with --init_from of this one to use its weights'
    )
