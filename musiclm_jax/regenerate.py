"""Makes a sound file again from what is said in it.

`python -m musiclm_jax.regenerate x.wav --out=again.wav`

Prompt, seed, length and settings come from the comment of a WAV or FLAC file
that `generate` wrote; the bundle is the one inside the package or
`--bundle=DIR`, and must be the one that made it; a parallel LM that took part
is named by `--parallel=DIR`. Sounds that it was made with
(`--melody`, `--continue`, `--style`, `--mix_audio`) are named again, each by
`--sound=FILE`, and known by their hash.
"""

from absl import flags

from musiclm_jax import cli, path_flags

_FILE = path_flags.DEFINE_path('file', None, 'Sound file to make again.')
_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_PARALLEL = path_flags.DEFINE_path(
  'parallel', None, 'Workdir or export of the parallel LM that took part.'
)
_SOUND = flags.DEFINE_multi_string(
  'sound', None, 'Sound file that the music was made with; repeatable.'
)
_OUT = path_flags.DEFINE_path('out', None, 'WAV or FLAC file to write.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace what is at --out and the .json beside it.'
)


def main() -> None:
  """Makes the file again and says whether it is the same, to the sample."""
  from musiclm_jax.cascade import provenance

  cli.require(_FILE, _OUT)
  record = provenance.read_provenance(_FILE.value)
  from musiclm_jax.cascade import repetition
  from musiclm_jax.cascade.musiclm import MusicLM
  from musiclm_jax.launch import devices

  weights = record.get('weights', 'float32')
  model = MusicLM.load(
    _BUNDLE.value, cli.report, weights=weights, parallel=_PARALLEL.value
  )
  arguments = repetition.arguments(
    record, model.bundle.sha256, _SOUND.value or (), model.parallel_sha256
  )
  devices.check()
  model.generate(
    **arguments,
    progress=cli.progress(),
    out=_OUT.value,
    overwrite=_OVERWRITE.value,
  )
  made = provenance.read_provenance(_OUT.value)
  same = made['sound_sha256'] == record.get('sound_sha256')
  cli.report(
    'the same samples'
    if same
    else 'not the same samples: another machine, version or batch rounds '
    'otherwise'
  )


if __name__ == '__main__':
  cli.run(main, operand=_FILE)
