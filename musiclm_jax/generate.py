"""Makes music from sentences, and from music.

`python -m musiclm_jax.generate --text="slow piano" --out=x.wav`

The model inside the package plays, or that of `--bundle=DIR`. What to play is
one of

  --text="slow piano"                  several are made together: x_0.wav, …
  --prompts=FILE                       the same, a text a line
  --mix="jazz:0.7" --mix="techno:0.3"  texts in shares, --mix_audio=FILE:0.5 too
  --style=FILE                         in the style of a sound file
  --story=FILE.yaml                    "- {start: 15, text: fast rock}", …
  --continue=FILE                      a recording goes on, with any of these or
                                       in its own style

`--melody=FILE` is a melody to play, hummed, whistled or played, where the
bundle has learned to follow one; longer music starts it again. `--negative`
names what to avoid, `--best_of=4` chooses among takes. `--parallel=DIR` draws
the acoustic codes of a window at once, by a parallel LM in the place of the
coarse and the fine stage. `--stream` writes a WAV to standard output while it
is made, for a player. Seed, prompt, bundle and versions stand inside each file
(comment) and beside it as JSON; the same seed and machine give the same file,
and `musiclm_jax.regenerate` makes it again. The same command goes on where it
was interrupted.
"""

import sys
import time
from typing import Any

from absl import flags

from musiclm_jax import cli, path_flags, sampling_flags
from musiclm_jax.contracts import bounds, tensor_file
from musiclm_jax.contracts.errors import UsageError

_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_TEXT = flags.DEFINE_multi_string('text', None, 'What to play; repeatable.')
_PROMPTS = path_flags.DEFINE_path(
  'prompts', None, 'File of texts, one a line, each of which is played.'
)
_MIX = flags.DEFINE_multi_string(
  'mix', None, 'TEXT:WEIGHT of what to mix into one piece; repeatable.'
)
_MIX_AUDIO = flags.DEFINE_multi_string(
  'mix_audio', None, 'FILE:WEIGHT of a sound whose style goes into the mix.'
)
_STYLE = path_flags.DEFINE_path(
  'style', None, 'Sound file in whose style to play.'
)
_STORY = path_flags.DEFINE_path(
  'story', None, 'YAML file: a list of start, in seconds, and text.'
)
_CONTINUE = path_flags.DEFINE_path(
  'continue', None, 'Sound file that the music begins with; --seconds count it.'
)
_NEGATIVE = flags.DEFINE_string(
  'negative', None, 'What guidance pushes away from.'
)
_BEST_OF = flags.DEFINE_integer(
  'best_of', 1, 'Takes, of which the one stays that fits its prompt best.'
)
_MELODY = path_flags.DEFINE_path(
  'melody', None, 'Sound file of a melody to play.'
)
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'Length, up to 3600.')
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Another seed gives other music.', *bounds.SEED
)
_OUT = path_flags.DEFINE_path('out', None, 'WAV or FLAC file to write.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite',
  False,
  'Replace what is at --out and the .json beside it, whoever wrote them.',
)
_STREAM = flags.DEFINE_bool(
  'stream',
  False,
  'Write the WAV to standard output while it is made, without --out.',
)
_TENSOR = flags.DEFINE_integer(
  'tensor',
  1,
  'Devices that share the layers of a model that is too large for one; the '
  'pieces are spread over all others.',
)
_WEIGHTS = flags.DEFINE_enum(
  'weights',
  'float32',
  tensor_file.DTYPES,
  "Type of the language models' kernels on the device; smaller ones round.",
)
_DRAFTS = path_flags.DEFINE_path(
  'drafts', None, 'Workdirs of smaller language models, which guess tokens.'
)
_PARALLEL = path_flags.DEFINE_path(
  'parallel',
  None,
  'Workdir or export of a parallel LM, in the place of coarse and fine.',
)
_DEFAULT = "None: the bundle's."
_SAMPLING = [
  *sampling_flags.define(_DEFAULT),
  flags.DEFINE_integer(
    'mulan_levels', None, f'MuLan levels of a text to use; {_DEFAULT}'
  ),
]
_EXAMPLE = 'say what to play, such as --text="slow piano"'


def main() -> None:
  """Checks all arguments before a network is loaded, then makes music."""
  from musiclm_jax.cascade import inputs, provenance, sampling

  asked = _asked()
  inputs.check_seconds(_SECONDS.value)
  changes = {f.name: f.value for f in _SAMPLING if f.value is not None}
  sampling.check(changes)
  if _STREAM.value:
    _check_stream(asked)
  else:
    cli.require(_OUT)
    count = len(asked) if isinstance(asked, list) else None
    provenance.outputs(_OUT.value, count, _SECONDS.value, _OVERWRITE.value)
  from musiclm_jax.cascade.musiclm import MusicLM
  from musiclm_jax.launch import devices

  model = MusicLM.load(
    _BUNDLE.value,
    cli.report,
    tensor=_TENSOR.value,
    weights=_WEIGHTS.value,
    drafts=_DRAFTS.value,
    parallel=_PARALLEL.value,
  )
  devices.check()
  common = {
    'seconds': _SECONDS.value,
    'seed': _SEED.value,
    'melody': _MELODY.value,
    'continue_from': _CONTINUE.value,
    'negative': _NEGATIVE.value,
    **changes,
  }
  if _STREAM.value:
    _play(model.stream(asked, **common))
    return
  model.generate(
    asked,
    best_of=_BEST_OF.value,
    progress=cli.progress(),
    out=_OUT.value,
    overwrite=_OVERWRITE.value,
    **common,
  )


def _check_stream(asked: Any) -> None:
  """Refuses what a stream cannot do, before a network is loaded.

  Raises:
    UsageError: Saying what to leave out.
  """
  if _OUT.value:
    raise UsageError('--stream and --out: give one of them')
  if isinstance(asked, list) or _BEST_OF.value != 1:
    raise UsageError(
      '--stream plays one prompt and one take: leave the others out'
    )
  if sys.stdout.isatty():
    raise UsageError(
      '--stream writes sound to standard output: send it to a player, such as '
      '"| aplay", or into a file'
    )


def _play(stream: Any) -> None:
  """Writes a WAV to standard output as it is made."""
  from musiclm_jax.cascade import provenance

  begun = time.monotonic()
  out = sys.stdout.buffer
  out.write(provenance.wav_header(stream.samples, stream.sample_rate))
  for number, chunk in enumerate(stream):
    out.write(provenance.to_pcm(chunk))
    out.flush()
    if not number:
      cli.report(f'the first sound after {time.monotonic() - begun:.1f} s')


def _asked() -> Any:
  """What the flags ask for: a prompt, a list of texts, or None."""
  from musiclm_jax.cascade import inputs, prompts

  ways = {
    'text': _TEXT,
    'prompts': _PROMPTS,
    'mix': _MIX,
    'style': _STYLE,
    'story': _STORY,
  }
  given = {name for name, flag in ways.items() if flag.value}
  if _MIX_AUDIO.value:
    given.add('mix')
  if len(given) > 1:
    raise UsageError(
      f'--{" and --".join(sorted(given))}: give one of them, as each says what '
      'to play'
    )
  if given == {'prompts'}:
    return inputs.read_lines(_PROMPTS.value)
  if given == {'mix'}:
    texts = [prompts.read_part(part, 'mix') for part in _MIX.value or ()]
    files = [
      prompts.read_part(part, 'mix_audio') for part in _MIX_AUDIO.value or ()
    ]
    sounds = [(prompts.SoundPrompt(file), share) for file, share in files]
    return prompts.Mixture([*texts, *sounds])
  if given == {'style'}:
    return prompts.SoundPrompt(_STYLE.value)
  if given == {'story'}:
    return prompts.read_story(_STORY.value)
  if _CONTINUE.value and not _TEXT.value:
    return None
  texts = [inputs.read_text(text, _EXAMPLE) for text in _TEXT.value or ['']]
  return texts if len(texts) > 1 else texts[0]


if __name__ == '__main__':
  cli.run(main)
