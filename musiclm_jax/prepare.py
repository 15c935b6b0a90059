"""Prepares music to be read fast: sound, MIDI or music that is composed here.

`python -m musiclm_jax.prepare --source=KIND:DIR --out=DIR`

Trainings and `tokenize` then read `prepared:DIR`: 24 kHz, mono, int16, in
records of 2 s. KIND is audio_folder, midi_folder, or rendered_music for a
corpus of an earlier version. `--source=rendered_music` composes and renders
`--pieces` pieces (80 % train, 10 % validation, 10 % test); 100 take about
440 MB and 10-20 s on two cores. The same command again continues an interrupted
run, makes again what has changed in the music, and does nothing where all is
done. Files that cannot be read are named with their reason, in `--json=FILE`
too.
"""

import os

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import bounds, ownership
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable

_SOURCE = flags.DEFINE_string(
  'source',
  'rendered_music',
  'Music as kind:DIR (audio_folder, midi_folder, …), or rendered_music, which '
  'is composed.',
)
_OUT = path_flags.DEFINE_path('out', None, 'Folder of the prepared corpus.')
_PIECES = flags.DEFINE_integer(
  'pieces', 800, 'Of rendered_music, in all splits together.', *bounds.PIECES
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of rendered_music: another one is other music.', *bounds.SEED
)
_PROCESSES = flags.DEFINE_integer(
  'processes', None, 'That decode or render; None: one a core.', 1, 4096
)
_JSON = path_flags.DEFINE_path(
  'json', None, 'File for what was prepared and what was rejected.'
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the corpus that is at --out, if it is another.'
)


def main() -> None:
  """Writes the shards that are missing, then completes the corpus."""
  if not _OUT.value:
    raise UsageError(f'--out is missing: {flags.FLAGS["out"].help}')
  if _JSON.value:
    ownership.check_sealed(_JSON.value, 'prepare', _OVERWRITE.value)
  from musiclm_jax.data import preparable, preparation

  if _SOURCE.value == 'rendered_music':
    music = preparable.rendered_music(_PIECES.value, _SEED.value)
  else:
    _check_unused()
    music = preparable.open_music(_SOURCE.value)
  with cli.resumable(_OUT.value):
    found = preparation.prepare(
      music,
      _OUT.value,
      processes=_PROCESSES.value or os.cpu_count() or 1,
      overwrite=_OVERWRITE.value,
      report=cli.report,
      progress=cli.progress(),
    )
  if _JSON.value:
    ownership.write_sealed(_JSON.value, found.to_json())
  for what, files in (
    ('cannot be read and are left out', found.rejected),
    ('have silence in places', found.damaged),
  ):
    if files:
      named = [f'{printable(f.path)} ({printable(f.reason)})' for f in files]
      cli.report(f'{len(files)} files {what}: {first_few(named)}')
  count, hours = sum(found.pieces.values()), found.seconds / 3600
  line = f'{_OUT.value} is complete: {count} pieces, {hours:.2f} hours'
  print(printable(line), flush=True)


def _check_unused() -> None:
  """Refuses flags of music that is composed for music that is there."""
  for flag in (_PIECES, _SEED):
    if flag.present:
      raise UsageError(
        f'--{flag.name} is for --source=rendered_music: leave it out, all of '
        f"'{printable(_SOURCE.value)}' is prepared"
      )


if __name__ == '__main__':
  cli.run(main)
