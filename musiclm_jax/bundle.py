"""Gathers all trained networks into one folder that makes music by itself.

`python -m musiclm_jax.bundle --workdirs=DIR --out=DIR [--tokens=DIR]`

With `--tokens`, the number of MuLan levels that prompts are heard with is
chosen on held-out captions (recipe section 1); without, all are.
"""

from absl import flags

from musiclm_jax import door, path_flags
from musiclm_jax.contracts.errors import UsageError

_WORKDIRS = path_flags.DEFINE_path(
  'workdirs', None, 'Folder of the workdirs of all trainings.'
)
_OUT = path_flags.DEFINE_path('out', None, 'Folder of the bundle.')
_TOKENS = path_flags.DEFINE_path(
  'tokens', None, 'Token store on whose validation split to choose settings.'
)
_MULAN_LEVELS = flags.DEFINE_integer(
  'mulan_levels', None, 'MuLan levels of a prompt that are heard.'
)
_GUIDANCE = flags.DEFINE_float(
  'guidance', 1.0, 'Classifier-free guidance to propose; 1 is off.'
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the bundle at --out though files were changed.'
)


def main() -> None:
  """Checks that the networks belong together and writes the bundle."""
  for flag in (_WORKDIRS, _OUT):
    if not flag.value:
      raise UsageError(
        f'--{flag.name} is missing: {flags.FLAGS[flag.name].help}'
      )
  from musiclm_jax.cascade import bundle, networks, provenance, settings
  from musiclm_jax.cascade.mulan_levels import choose_mulan_levels
  from musiclm_jax.cascade.tokenizer import Tokenizer
  from musiclm_jax.cascade.vocabulary import find_vocabulary
  from musiclm_jax.contracts.token_contract import TokenContract
  from musiclm_jax.data.text import WordPiece as Vocabulary
  from musiclm_jax.data.token_store import TokenStore
  from musiclm_jax.launch import devices

  settings.check('guidance', _GUIDANCE.value)
  bundle.check_out(_OUT.value, _OVERWRITE.value)
  devices.check()
  loaded = networks.load_all(_WORKDIRS.value, bundle.STAGES)
  # The tokens that the language models learned say which networks made them.
  trained = TokenContract.from_json(
    loaded['semantic'].weights.contract_json or '{}'
  )
  more = set(bundle.stages_of(trained)) - loaded.keys()
  loaded |= networks.load_all(_WORKDIRS.value, tuple(sorted(more)))
  vocabulary = find_vocabulary(_WORKDIRS.value)
  tokenizer = Tokenizer(loaded, Vocabulary.load(vocabulary))
  contract = tokenizer.contract(trained.coarse_levels)
  levels = contract.streams['mulan'].num_levels
  if _MULAN_LEVELS.value is not None:
    if not 0 <= _MULAN_LEVELS.value <= levels:
      raise UsageError(
        f'--mulan_levels={_MULAN_LEVELS.value}: choose 0 to {levels}'
      )
    levels = _MULAN_LEVELS.value
  elif _TOKENS.value:
    store = TokenStore(_TOKENS.value, 'validation')
    contract.check(store.contract, 'the networks', f'store {_TOKENS.value}')
    levels = choose_mulan_levels(loaded['semantic'], store)
  written = bundle.write(
    _OUT.value,
    {stage: network.weights for stage, network in loaded.items()},
    contract,
    vocabulary.read_text(encoding='utf-8'),
    settings.Settings(mulan_levels=levels, guidance=_GUIDANCE.value),
    provenance.versions(),
    _OVERWRITE.value,
  )
  door.report(
    f'bundle {written.path}: {levels} MuLan levels, guidance '
    f'{_GUIDANCE.value}, sha256 {written.sha256}'
  )


if __name__ == '__main__':
  door.run(main)
