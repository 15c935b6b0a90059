"""Gathers all trained networks into one folder that makes music by itself.

`python -m musiclm_jax.bundle --workdirs=DIR --out=DIR [--tokens=DIR]`

With `--tokens`, the number of MuLan levels of a prompt that are used is chosen
on held-out captions; without, all are. Where music is likeliest without any, it
is 0: prompts are not used, which a line and the bundle's card say. Weights are
stored in the type in which the networks made the tokens: `tokenize
--dtype=bfloat16` makes a small bundle.
"""

from absl import flags

from musiclm_jax import cli, path_flags, sampling_flags
from musiclm_jax.contracts import tensor_file
from musiclm_jax.stages import LANGUAGE_MODELS

_WORKDIRS = path_flags.DEFINE_path(
  'workdirs', None, 'Folder of the workdirs of all trainings.'
)
_OUT = path_flags.DEFINE_path('out', None, 'Folder of the bundle.')
_TOKENS = path_flags.DEFINE_path(
  'tokens', None, 'Token store on whose validation split to choose settings.'
)
_MULAN_LEVELS = flags.DEFINE_integer(
  'mulan_levels', None, 'MuLan levels of a prompt that are used.'
)
_SAMPLING = sampling_flags.define('None: 1, no top-k and no top-p.')
_DTYPE = flags.DEFINE_enum(
  'dtype',
  None,
  tensor_file.DTYPES,
  'Type that weights are stored in; None: that of the networks that made the '
  'tokens, see --dtype of tokenize.',
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the bundle at --out though files were changed.'
)


def main() -> None:
  """Checks that the networks belong together and writes the bundle."""
  cli.require(_WORKDIRS, _OUT)
  from musiclm_jax.cascade import bundle, bundling, sampling
  from musiclm_jax.launch import devices

  proposed = {f.name: f.value for f in _SAMPLING if f.value is not None}
  sampling.check(proposed)
  bundle.check_out(_OUT.value, _OVERWRITE.value)
  devices.check()
  written = bundling.bundle_workdirs(
    _WORKDIRS.value,
    _OUT.value,
    tokens=_TOKENS.value,
    mulan_levels=_MULAN_LEVELS.value,
    sampling=proposed,
    dtype=_DTYPE.value,
    overwrite=_OVERWRITE.value,
    report=cli.report,
  )
  settings = written.settings
  scales = [getattr(settings, f'guidance_{stage}') for stage in LANGUAGE_MODELS]
  cli.report(
    f'bundle {written.path} in {written.dtype}: '
    f'{settings.mulan_levels} MuLan levels, guidance '
    f'{", ".join(map(str, scales))}, '
    f'sha256 {written.sha256}'
  )


if __name__ == '__main__':
  cli.run(main)
