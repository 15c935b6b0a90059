"""Trains one network of the cascade, or continues to.

`python -m musiclm_jax.train --config=configs/semantic.py:tiny --workdir=DIR`

Token LMs read `--tokens=STORE`, the three fits `--network=WORKDIR_OR_BUNDLE`;
`--init_from=WORKDIR_OR_BUNDLE` starts any stage from given weights, and
`--init_text=FOLDER` MuLan's text tower from a published BERT. The same command
again continues where a run was stopped or killed, and a larger
`--config.schedule.total_steps` goes further. `--profile=10:15` traces those
steps for TensorBoard.
"""

from collections.abc import Collection
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
  'init_from', None, 'Workdir or bundle whose weights to start from.'
)
_INIT_TEXT = path_flags.DEFINE_path(
  'init_text',
  None,
  "Folder of a BERT (model.safetensors, vocab.txt) for MuLan's text tower.",
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


def _initial(config: Any, contract: Any, players: Collection) -> tuple | None:
  """Loads what to start from, of the same token contract; see `loop.train`."""
  if _INIT_TEXT.value:
    from musiclm_jax import stages

    read = stages.find(config.stage).text_tower
    return read(config.to_dict(), _INIT_TEXT.value), None
  if not _INIT_FROM.value:
    return None
  from musiclm_jax.cascade import networks
  from musiclm_jax.cascade.weights import TRAINING_PLAYERS
  from musiclm_jax.contracts.token_contract import TokenContract

  weights = networks.load(_INIT_FROM.value, config.stage).weights
  if contract is not None:
    theirs = TokenContract.from_json(weights.contract_json or '{}')
    theirs.check(contract, _INIT_FROM.value, _TOKENS.value)
  fresh = [
    player
    for player in TRAINING_PLAYERS
    if player in players and player not in weights.params
  ]
  for player in fresh:
    cli.report(
      f"'{_INIT_FROM.value}' holds no {player}, which only training needs: "
      'they start from random values'
    )
  return weights.params, weights.collections, fresh


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
  initial = _initial(config, contract, task.losses())
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
    loop.train(
      task,
      stage_data.open_data(config.stage, inputs),
      workdir=workdir,
      config=stages.resolved(config.to_dict()),
      schedule=config.schedule.to_dict(),
      optimizers=config.optimizer.to_dict(),
      seed=config.seed,
      contract_json=contract and contract.to_json(),
      initial=initial,
      profiled=profiled,
      progress=cli.progress(shown=False),  # the loop prints lines of its own
      **config.training,
      **config.mesh,
    )


if __name__ == '__main__':
  cli.run(main)
