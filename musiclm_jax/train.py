"""Trains one network of the cascade, or continues to.

`python -m musiclm_jax.train --config=configs/semantic.py:tiny --workdir=DIR`

Token LMs read `--tokens=STORE`, the three fits `--network=WORKDIR_OR_BUNDLE`;
`--init_from=WORKDIR_OR_BUNDLE` starts any stage from given weights, and
`--init_text=FOLDER` MuLan's text tower from a published BERT. The same command
again continues where a run was stopped or killed, and a larger
`--config.schedule.total_steps` goes further.

Where a machine is there for minutes, `--max_minutes=N` saves and ends in time
(exit code 75), `--export=FILE` writes what was learned into one file, and
`--init_from=FILE` goes on from it on the next machine, in another workdir.

`--profile=10:15` traces those steps for TensorBoard.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import membership

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'FILE.py[:SIZE], or a name such as semantic:tiny.'
)
_WORKDIR = path_flags.DEFINE_path('workdir', None, 'Folder of this training.')
_TOKENS = path_flags.DEFINE_path('tokens', None, 'Token store, for token LMs.')
_NETWORK = path_flags.DEFINE_path(
  'network', None, 'Workdir or bundle of the network whose features are fitted.'
)
_INIT_FROM = path_flags.DEFINE_path(
  'init_from',
  None,
  'Workdir or bundle whose weights to start from, or an export to go on from.',
)
_INIT_TEXT = path_flags.DEFINE_path(
  'init_text',
  None,
  "Folder of a BERT (model.safetensors, vocab.txt) for MuLan's text tower.",
)
_MAX_MINUTES = flags.DEFINE_float(
  'max_minutes',
  None,
  'Save and end (code 75) before this process is as old; None: for ever.',
  lower_bound=0.01,
)
_EXPORT = path_flags.DEFINE_path(
  'export', None, 'File for what was learned when the run ends, in bfloat16.'
)
_EXPORT_PART_MB = flags.DEFINE_float(
  'export_part_mb',
  None,
  'Largest part of the export in 10^6 bytes; None: one file.',
  lower_bound=0.001,
)
_PROFILE = flags.DEFINE_string(
  'profile', None, 'Steps to trace into the workdir, FIRST:LAST.'
)


def _check_flags(stage: str) -> None:
  """Refuses a call with a flag too few or too many."""
  from musiclm_jax import stages

  record = stages.find(stage)
  fitted_to = record.fit and record.fit.network
  network = f'the workdir of {fitted_to}, or a bundle'
  for flag, value, needed, what in (
    ('workdir', _WORKDIR.value, True, 'the folder of this training'),
    ('tokens', _TOKENS.value, bool(record.layout), 'a token store'),
    ('network', _NETWORK.value, bool(fitted_to), network),
  ):
    if needed and not value:
      raise UsageError(f'the stage {stage} needs --{flag}: {what}')
    if value and not needed:
      raise UsageError(f'the stage {stage} reads no --{flag}: leave it out')
  if _EXPORT.value:
    from musiclm_jax.training import export

    export.check_out(_EXPORT.value)
  elif _EXPORT_PART_MB.value:
    raise UsageError('got --export_part_mb without --export: name the file')
  if _INIT_TEXT.value and not record.text_tower:
    raise UsageError(
      f'the stage {stage} reads no --init_text: leave it out, only mulan has '
      'a text tower'
    )
  if _INIT_TEXT.value and _INIT_FROM.value:
    raise UsageError(
      'got both --init_text and --init_from: leave one out, the weights '
      'of --init_from hold a text tower and its word pieces'
    )


def _initial(
  config: Any, contract: Any, players: Collection
) -> tuple[Callable, int, Any]:
  """What makes the state to start from; see `loop.Slice`.

  Returns:
    It, the step of that state and the schedule of the training that it is of.
  """
  from musiclm_jax.training import export
  from musiclm_jax.training.state import start_from

  if _INIT_TEXT.value:
    from musiclm_jax import stages

    read = stages.find(config.stage).text_tower
    tower = read(config.to_dict(), _INIT_TEXT.value)
    begin = functools.partial(start_from, params=tower, collections=None)
    return begin, 0, config.schedule
  source = _INIT_FROM.value
  if not source:
    return lambda state: state, 0, config.schedule
  from musiclm_jax.cascade import networks
  from musiclm_jax.cascade.weights import TRAINING_PLAYERS
  from musiclm_jax.contracts.token_contract import TokenContract

  is_export = export.is_export(source)
  if is_export:
    given = export.read(source)
    networks.check_stage(source, given.config, config.stage)
  else:
    given = networks.read(source, config.stage)
  if contract is not None:
    theirs = TokenContract.from_json(given.contract_json or '{}')
    theirs.check(contract, source, _TOKENS.value)
  if is_export:
    begin = functools.partial(_continue, export=given)
    return begin, given.step, given.config['schedule']
  fresh = [
    player
    for player in TRAINING_PLAYERS
    if player in players and player not in given.params
  ]
  for player in fresh:
    cli.report(
      f"'{source}' holds no {player}, which only training needs: they start "
      'from random values'
    )
  begin = functools.partial(
    start_from,
    params=given.params,
    collections=given.collections,
    fresh=fresh,
  )
  return begin, 0, config.schedule


def _resume(config: Any, done: int, schedule: Any) -> None:
  """Writes into a config how long its training was meant to be before.

  Args:
    config: Of the run.
    done: Steps of the state that a new workdir starts from.
    schedule: Of the training that this state is of.
  """
  from musiclm_jax.contracts.horizon import Horizon
  from musiclm_jax.training import checkpoint
  from musiclm_jax.training import workdir as folder

  path = Path(_WORKDIR.value)
  if steps := checkpoint.steps_in(path / folder.CHECKPOINTS):
    done, schedule = steps[0], folder.read_config(path)['schedule']
  before, total = Horizon.of(schedule), config.schedule.total_steps
  now = before.after(done, total)
  if now.earlier:
    with config.unlocked():
      config.schedule.earlier = now.earlier
  if now.earlier == before.earlier or done >= total:
    return
  ended = done >= before.total_steps
  cli.report(
    f'total_steps is {total} and was {before.total_steps} until step {done}: '
    'phases that have begun stay begun, the rest is spread over the steps that '
    f'are left{"; learning rates begin a new schedule" if ended else ""}'
  )


def _continue(state: Any, export: Any) -> Any:
  """Begins where an export ended, and says what it lost."""
  from musiclm_jax.training.export import begin

  cli.report(
    f"going on from step {export.step} of '{_INIT_FROM.value}', which holds no "
    'moments of the optimizer: they begin at zero, and the learning rates warm '
    'up again'
  )
  return begin(state, export)


def _seconds_left() -> Callable[[], float] | None:
  """What tells how long this process may go on; None: for ever."""
  if _MAX_MINUTES.value is None:
    return None
  return functools.partial(cli.seconds_left, _MAX_MINUTES.value)


def _export(state: Any, workdir: Path, **about: Any) -> None:
  """Writes what was learned to --export."""
  from musiclm_jax.cascade.stage_data import TEXTS
  from musiclm_jax.training import export

  there = [name for name in TEXTS if (workdir / name).is_file()]
  files = {name: (workdir / name).read_text('utf-8') for name in there}
  for file in export.write(
    _EXPORT.value, state, files=files, part_mb=_EXPORT_PART_MB.value, **about
  ):
    cli.report(f"exported to '{file}'")


def main() -> None:
  """Trains the stage that the config names."""
  config = _CONFIG.value
  if config is None:
    raise UsageError('--config is missing: give one like semantic:tiny')
  membership.join()
  import jax

  from musiclm_jax import stages
  from musiclm_jax.cascade import stage_data
  from musiclm_jax.launch import devices
  from musiclm_jax.training import loop
  from musiclm_jax.training import workdir as folder
  from musiclm_jax.training.observer import profiled_steps

  devices.check()
  _check_flags(config.stage)
  profiled = range(0)
  if _PROFILE.value:
    profiled = profiled_steps(_PROFILE.value, config.schedule.total_steps)
  task = stages.build(config)
  contract = layout = None
  if make_layout := stages.find(config.stage).layout:
    layout = make_layout(config)
    contract = stage_data.read_contract(_TOKENS.value, layout)
  begin, first_step, schedule = _initial(config, contract, task.losses())
  _resume(config, first_step, schedule)
  task = stages.build(config)  # which may have been meant to be shorter
  about = {
    'config': stages.resolved(config.to_dict()),
    'contract_json': contract and contract.to_json(),
  }
  leads = jax.process_index() == 0
  with folder.claim(_WORKDIR.value, leads=leads) as workdir:
    inputs = stage_data.Inputs(
      config.data.to_dict(),
      config.seed,
      workdir,
      tokens=_TOKENS.value,
      layout=layout,
      network=_NETWORK.value,
      init_from=_INIT_FROM.value,
      init_text=_INIT_TEXT.value,
    )
    part = loop.Slice(begin, first_step, _seconds_left())
    if _EXPORT.value:
      at_end = functools.partial(_export, workdir=workdir, **about)
      part = dataclasses.replace(part, at_end=at_end)
    loop.train(
      task,
      stage_data.open_data(config.stage, inputs),
      workdir=workdir,
      schedule=config.schedule.to_dict(),
      optimizers=config.optimizer.to_dict(),
      seed=config.seed,
      part=part,
      profiled=profiled,
      progress=cli.progress(shown=False),  # the loop prints lines of its own
      **about,
      **config.training,
      **config.mesh,
    )


if __name__ == '__main__':
  cli.run(main)
