"""Makes music from sentences.

`python -m musiclm_jax.generate --text="slow piano" --out=x.wav`

The model inside the package plays, or that of `--bundle=DIR`.
Several `--text` are made together and written as x_0.wav, x_1.wav, …
`--melody=FILE` is a melody to play, hummed, whistled or played, where the
bundle has learned to follow one; longer music starts it again. Seed,
prompt, bundle and versions stand inside each WAV (comment) and beside it as
JSON; the same seed and machine give the same file. The same command goes on
where it was interrupted.
"""

from absl import flags

from musiclm_jax import cli, path_flags, sampling_flags
from musiclm_jax.contracts import bounds

_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_TEXT = flags.DEFINE_multi_string('text', None, 'What to play; repeatable.')
_MELODY = path_flags.DEFINE_path(
  'melody', None, 'Sound file of a melody to play, of 4 s or more.'
)
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'Length, up to 3600.')
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Another seed gives other music.', *bounds.SEED
)
_OUT = path_flags.DEFINE_path('out', None, 'WAV file to write.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite',
  False,
  'Replace what is at --out and the .json beside it, whoever wrote them.',
)
_DEFAULT = "None: the bundle's."
_SAMPLING = [
  *sampling_flags.define(_DEFAULT),
  flags.DEFINE_integer(
    'mulan_levels', None, f'MuLan levels of a text to use; {_DEFAULT}'
  ),
]


def main() -> None:
  """Checks all arguments before a network is loaded, then makes music."""
  from musiclm_jax.cascade import inputs, provenance, sampling

  texts = [
    inputs.read_text(text, 'say what to play, such as --text="slow piano"')
    for text in _TEXT.value or ['']
  ]
  inputs.check_seconds(_SECONDS.value)
  changes = {f.name: f.value for f in _SAMPLING if f.value is not None}
  sampling.check(changes)
  cli.require(_OUT)
  count = len(texts) if len(texts) > 1 else None
  provenance.outputs(_OUT.value, count, _SECONDS.value, _OVERWRITE.value)
  from musiclm_jax.cascade.musiclm import MusicLM
  from musiclm_jax.launch import devices

  model = MusicLM.load(_BUNDLE.value, cli.report)
  devices.check()
  model.generate(
    texts if count else texts[0],
    seconds=_SECONDS.value,
    seed=_SEED.value,
    melody=_MELODY.value,
    progress=cli.progress(),
    out=_OUT.value,
    overwrite=_OVERWRITE.value,
    **changes,
  )


if __name__ == '__main__':
  cli.run(main)
