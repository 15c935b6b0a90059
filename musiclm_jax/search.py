"""Finds songs of your own by a sentence.

`python -m musiclm_jax.search --index=FOLDER --text="slow piano"`

FOLDER holds sound files (wav, flac, mp3, ogg, …), at any depth. The first
call embeds all of them and keeps an index in the folder; later calls embed
what is new or changed. Each line of the answer: rank, cosine, file.
"""

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts.terminal import printable

_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_INDEX = path_flags.DEFINE_path('index', None, 'Folder of your songs.')
_TEXT = flags.DEFINE_string('text', None, 'What to look for.')
_TOP = flags.DEFINE_integer('top', 10, 'Songs to show.', lower_bound=1)


def main() -> None:
  """Brings the index up to date and prints the best songs."""
  from musiclm_jax.cascade import inputs

  cli.require(_INDEX)
  example = 'say what to look for, such as --text="slow piano"'
  text = inputs.read_text(_TEXT.value, example)
  from musiclm_jax.cascade.musiclm import MusicLM
  from musiclm_jax.launch import devices

  model = MusicLM.load(_BUNDLE.value, cli.report)
  devices.check()
  with cli.resumable(_INDEX.value):
    found = model.search(_INDEX.value, text, _TOP.value, cli.progress())
  for rank, (name, cosine) in enumerate(found, 1):
    print(f'{rank:3d}  {cosine:6.3f}  {printable(name)}')


if __name__ == '__main__':
  cli.run(main)
