"""Finds songs of your own by a sentence.

`python -m musiclm_jax.search --bundle=DIR --index=FOLDER --text="slow piano"`

FOLDER holds sound files (wav, flac, mp3, ogg, …), at any depth. The first
call hears all of them and keeps an index in the folder; later calls hear what
is new or changed. Each line of the answer: rank, cosine, file.
"""

from absl import flags

from musiclm_jax import door, path_flags
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable

_BUNDLE = path_flags.DEFINE_path('bundle', None, 'Folder of a bundle.')
_INDEX = path_flags.DEFINE_path('index', None, 'Folder of your songs.')
_TEXT = flags.DEFINE_string('text', None, 'What to look for.')
_TOP = flags.DEFINE_integer('top', 10, 'Songs to show.', lower_bound=1)


def _check_flags() -> str:
  """The sentence; refuses all that can be before anything is read."""
  from musiclm_jax.cascade import prompt

  if not _BUNDLE.value:
    raise UsageError('--bundle is missing: give the folder of a bundle')
  if not _INDEX.value:
    raise UsageError('--index is missing: give the folder of your songs')
  return prompt.read(
    _TEXT.value, 'say what to look for, such as --text="slow piano"'
  )


def main() -> None:
  """Brings the index up to date and prints the best songs."""
  text = _check_flags()
  from musiclm_jax.cascade import bundle as bundles
  from musiclm_jax.data.audio_folder import AudioFolder
  from musiclm_jax.data.text import WordPiece as Vocabulary

  bundle = bundles.read(_BUNDLE.value)
  folder = AudioFolder(_INDEX.value, 'all')
  from musiclm_jax.cascade import networks, song_search
  from musiclm_jax.launch import devices

  devices.check()
  door.report(f'loading {bundle.path}')
  loaded = {
    stage: networks.build(bundle.weights(stage))
    for stage in song_search.NETWORKS
  }
  search = song_search.SongSearch(loaded, Vocabulary.load(bundle.vocabulary))
  for line in search.remarks(text):
    door.report(line)
  found = search.rank(text, folder, _INDEX.value, door.report)
  for rank, (name, cosine) in enumerate(found[: _TOP.value], 1):
    print(f'{rank:3d}  {cosine:6.3f}  {printable(name)}')


if __name__ == '__main__':
  door.run(main)
