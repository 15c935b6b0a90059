"""The folder of one training: who may write into it, and its metadata.

`config.json`, `contract.json` (token LMs), `metrics.jsonl`, `speed.jsonl`,
`checkpoints/`, `damaged/` (checkpoints that cannot be read), TensorBoard
events, `profile/`, and what a stage must keep beside (MuLan's `vocab.txt` and
`caption_words.txt`).
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils

from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import UsageError

CONFIG = 'config.json'
CONTRACT = 'contract.json'
METRICS = 'metrics.jsonl'
SPEED = 'speed.jsonl'
CHECKPOINTS = 'checkpoints'
DAMAGED = 'damaged'
FOLDER = ownership.Kind(
  'workdir',
  (
    *(CONFIG, CONTRACT, METRICS, SPEED, 'sharding.txt'),
    *('vocab.txt', 'caption_words.txt'),
    *(f'{CHECKPOINTS}/[0-9]*/*', f'{DAMAGED}/[0-9]*/*', 'profile/*'),
    *('events.out.tfevents.*', '.lock'),  # the latter of earlier versions
  ),
  known=lambda folder: (
    {'stage', 'schedule'} <= ownership.object_in(folder / CONFIG).keys()
  ),
)
_RESTING = 'adam'  # of a player without parameters, which a config leaves out
# Fields that later releases added, as configs stored before them have them.
_ADDED = {
  'layout.semantic': True,
  'loss.no_semantic_probability': 0.0,
  'loss.wrong_level_probability': 0.0,
  'loss.first_level_probability': 0.0,
  'data.mark_true_pairs': False,
  'loss.split_share': 0.0,
  'model.attention_seconds': None,
  'model.feature_depth': None,
  'discriminators.stft_windows': [1024],
  'loss.mel_scales': [[2**i, 64] for i in range(6, 12)],
  'loss.mel_log_only': False,
  'loss.log_stft_weight': 0.0,
  'loss.waveform_until_adversarial': False,
  'loss.relative_features': False,
  'loss.frozen_codes': False,
  'model.pitch_classes': False,
  'data.same_key': False,
}
_HOW = {
  ('training', 'accumulation'),
  ('data', 'read_threads'),
  ('data', 'read_processes'),
  ('model', 'remat'),
  ('model', 'attention_kernel'),
  ('model', 'scan_unroll'),
}


@contextlib.contextmanager
def claim(path: str | Path, *, leads: bool = True) -> Iterator[Path]:
  """Holds a workdir for this run alone; makes it where it is missing.

  If the block ends in an error before the first metrics or checkpoint of a new
  workdir, what was made here is removed: a refused call leaves nothing behind.

  Args:
    path: The folder.
    leads: Whether this is the first process of its run, which holds it for
      the others.

  Raises:
    UsageError: If another run holds it, it holds something of a user's where a
      training would write, or it cannot be made or written.
  """
  path = Path(path).absolute()
  if not leads:
    yield path
    return
  ownership.check(path, FOLDER)
  new = not ownership.is_ours(path, FOLDER)
  made = [p for p in (path, *path.parents) if not os.path.lexists(p)]
  with ownership.hold(path, FOLDER, 'training'):
    atomic_file.remove_leftovers(path)
    try:
      yield path
    except BaseException:
      if new and not _has_begun(path):
        ownership.discard(path, FOLDER)
        for folder in made:
          with contextlib.suppress(OSError):  # another run is in there
            folder.rmdir()
      raise


def describe(
  path: Path, config: dict[str, Any], contract_json: str | None
) -> None:
  """Writes config and token contract; what is already there must agree.

  What may change between two runs: the schedule, the mesh, the optimizers'
  numbers (not their names, since their states are in the checkpoints), and
  how a step is computed and its batch is read (`_HOW`), since another machine
  may need another. Of those, other microbatches draw other dropout.

  Raises:
    UsageError: Naming the first field that differs, with both values.
  """
  config = json.loads(json.dumps(config))
  if (path / CONFIG).exists():
    differing = sorted(_differences(read_config(path), config))
    if differing:
      field, old, new = differing[0]
      raise UsageError(
        f'workdir {path} was trained with {field}={old}, not {new}: use the '
        'same value or another workdir'
      )
  if contract_json is not None:
    stored = read_contract(path)
    if stored is not None and stored != contract_json:
      from musiclm_jax.contracts.token_contract import TokenContract

      TokenContract.from_json(contract_json).check(
        TokenContract.from_json(stored), 'the token store', f'workdir {path}'
      )
    atomic_file.write_text(path / CONTRACT, contract_json)
  atomic_file.write_text(
    path / CONFIG, json.dumps(config, indent=1, sort_keys=True) + '\n'
  )


def describe_to_all(
  path: Path, config: dict[str, Any], contract_json: str | None
) -> None:
  """Lets the first process `describe` the folder and the others see it.

  Raises:
    UsageError: As `describe`, and in all processes if one does not see it.
  """
  if jax.process_index() == 0:
    describe(path, config, contract_json)
  multihost_utils.sync_global_devices('the workdir is described')
  seen = multihost_utils.process_allgather((path / CONFIG).exists())
  if not np.all(seen):
    raise UsageError(
      f'{np.size(seen) - np.count_nonzero(seen)} of {np.size(seen)} processes '
      f'do not see workdir {path}: give a folder that all machines share'
    )


def read_config(path: Path) -> dict[str, Any]:
  """Reads the resolved config of a workdir.

  Raises:
    UsageError: If the folder is no workdir, or its config is damaged.
  """
  try:
    config = json.loads((path / CONFIG).read_text(encoding='utf-8'))
  except FileNotFoundError as error:
    raise UsageError(
      f'{path} is no workdir: it has no {CONFIG}; give the --workdir of a '
      'training'
    ) from error
  except ValueError as error:
    raise UsageError(f'{path / CONFIG} is damaged: {error}') from error
  if not isinstance(config, dict):
    raise UsageError(
      f'{path / CONFIG} is damaged: expected a JSON object, got '
      f'{type(config).__name__}'
    )
  return config


def read_contract(path: Path) -> str | None:
  """Reads the token contract, if the workdir has one."""
  try:
    return (path / CONTRACT).read_text(encoding='utf-8', errors='replace')
  except FileNotFoundError:
    return None


def _differences(
  old: dict[str, Any], new: dict[str, Any]
) -> Iterator[tuple[str, str, str]]:
  old, new = (flatten_dict(each, sep='.') for each in (old, new))
  for field in old.keys() | new.keys():
    section, name = field.split('.')[0], field.split('.')[-1]
    if (
      section in ('schedule', 'mesh')
      or (section == 'optimizer' and name != 'name')
      or (section, name) in _HOW
    ):
      continue
    absent = _RESTING if section == 'optimizer' else 'nothing'
    absent = _ADDED.get(field, absent)
    values = [repr(d.get(field, absent)) for d in (old, new)]
    if values[0] != values[1]:
      yield field, *values


def has_checkpoint(path: Path) -> bool:
  """Whether a run has begun to save what it has learned."""
  checkpoints = path / CHECKPOINTS
  return checkpoints.is_dir() and any(checkpoints.iterdir())


def _has_begun(path: Path) -> bool:
  """Whether there is anything that a run would miss."""
  metrics = path / METRICS
  return (metrics.exists() and metrics.stat().st_size > 0) or has_checkpoint(
    path
  )
