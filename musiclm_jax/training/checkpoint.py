"""Checkpoints: a whole TrainState and its metadata each.

Orbax keeps one under `<workdir>/checkpoints/<step>`, as one flat dict of arrays
(`'params/lm/...' -> array`) in `state` and one JSON object in `about`. It is
written aside by all processes, while training goes on, renamed when complete,
and read by any other number of processes and devices.
"""

import contextlib
import dataclasses
import errno
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain, plain_file
from musiclm_jax.training import workdir as folder
from musiclm_jax.training.schedule import Best, Schedule
from musiclm_jax.training.state import TrainState, flatten

STATE, METADATA = 'state', 'about'  # names of the items on disk
# 1 had the players alone, in `names`; config and contract lay in the workdir,
# and the state did not know `rolled_back`: it is read, but not continued.
SCHEMA = 2
_FIRST = 'names'
_GROUP = 64  # arrays in memory at once while a checkpoint is checked
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
  # The handler alone: a `Checkpointer` warns that `state` is not a whole step.
  with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
    stored = reader.metadata(state).tree
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
  metrics: dict[int, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
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
        metadata = read_metadata(self._path(step))
        self._kept.metrics[step] = metadata.metrics

  def save(self, state: TrainState, held_out: Mapping[str, float]) -> None:
    """Begins to write `state`; training may go on and donate it.

    The checkpoint before is read back first. Where that fails it is put aside
    and this one is waited for, so that two in a row end the run.

    Args:
      state: After any step; one that is there already stays as it is.
      held_out: Mapping[str, float] of this step, empty where none were taken.

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
    metadata = Metadata(
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

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

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
        schema = read_metadata(path).schema
        if schema != SCHEMA:
          raise UsageError(
            f'the checkpoint {path} has schema {schema}, from which this '
            f'version reads weights but does not go on ({SCHEMA} is needed): '
            'give another --workdir, with --init_from of this one to use its '
            'weights'
          )
        # Orbax's own `Checkpointer` waits for the other processes, in vain
        # where one of them met a damaged file.
        state, handler = plain_file(path) / STATE, ocp.PyTreeCheckpointHandler()
        leaves = handler.restore(state, args=arguments)
      except UsageError:
        raise
      except Exception as error:
        print(skipping(path, error), flush=True)
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
      raise UsageError(all_damaged(self._folder))
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
      read_back(path, {name: shapes[name] for name in share})
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
    return steps_in(self._folder)[::-1]

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
