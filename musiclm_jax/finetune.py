"""Lets a bundle learn from a folder of your own songs.

`python -m musiclm_jax.finetune --songs=FOLDER --out=DIR`

The three language models (or `--stages`) go on learning from tokens of the
songs, `--steps` steps each; codec and other networks stay. A fifth of the
songs, two at least, is held out. Where the loss on these falls no more, a
training ends early, and its best step is taken. DIR/bundle is the new bundle,
DIR/report.html says what has changed, measured on the held-out songs:

nll_<stage>   nats a token of each song
kad_tagger    distance to the songs of music that each bundle makes of the
              songs' own MuLan tokens

`--minutes` ends the trainings in time, compilation included, and what they
have reached counts. The same command again goes on where it was interrupted.
"""

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.stages import LANGUAGE_MODELS

_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_SONGS = path_flags.DEFINE_path(
  'songs', None, 'Folder of sound files, or one that prepare made.'
)
_OUT = path_flags.DEFINE_path(
  'out', None, 'Folder for the new bundle and the report.'
)
_STEPS = flags.DEFINE_integer('steps', 200, 'Of each language model, at most.')
_STAGES = flags.DEFINE_list(
  'stages', list(LANGUAGE_MODELS), 'Language models that learn.'
)
_MINUTES = flags.DEFINE_float(
  'minutes',
  None,
  'Of training in this call; what is reached then is taken. None: all steps.',
)
_RATE_SCALE = flags.DEFINE_float(
  'learning_rate_scale', 0.02, "Share of each stage's own learning rate."
)
_CLIPS = flags.DEFINE_integer(
  'clips', 16, 'That each bundle makes for the report, at most.'
)
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'Of each of these clips.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of all that is drawn.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Begin again, whatever --out holds of a fine-tuning.'
)


def main() -> None:
  """Checks all arguments, trains, and prints what has changed."""
  cli.require(_SONGS, _OUT)
  from musiclm_jax.cascade import bundle
  from musiclm_jax.finetuning import run
  from musiclm_jax.launch import devices

  asked = run.FineTuning(
    bundle=_BUNDLE.value or bundle.SHIPPED,
    songs=_SONGS.value,
    out=_OUT.value,
    steps=_STEPS.value,
    stages=tuple(_STAGES.value),
    minutes=_MINUTES.value,
    learning_rate_scale=_RATE_SCALE.value,
    clips=_CLIPS.value,
    seconds=_SECONDS.value,
    seed=_SEED.value,
    overwrite=_OVERWRITE.value,
  )
  run.check(asked)
  devices.check()
  with cli.resumable(_OUT.value):
    card = run.fine_tune(
      asked, cli.report, cli.progress(), cli.progress(shown=False)
    )
  for line in card.lines() if card else ():
    print(printable(line))


if __name__ == '__main__':
  cli.run(main)
