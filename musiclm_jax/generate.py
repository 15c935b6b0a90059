"""Makes music from sentences.

`python -m musiclm_jax.generate --bundle=DIR --text="slow piano" --out=x.wav`

Several `--text` are made together and written as x_0.wav, x_1.wav, …
`--melody=FILE` is a tune to play, hummed, whistled or played, where the bundle
has learned to hear one; longer music hears it again from its beginning. Seed,
prompt, bundle and versions stand inside each WAV (comment) and beside it as
JSON; the same seed and machine give the same file. The same command goes on
where it was interrupted.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from musiclm_jax import door, path_flags
from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import Keep, KeptParts

_BUNDLE = path_flags.DEFINE_path('bundle', None, 'Folder of a bundle.')
_TEXT = flags.DEFINE_multi_string('text', None, 'What to play; repeatable.')
_MELODY = path_flags.DEFINE_path(
  'melody', None, 'Sound file of a tune to play, of 4 s or more.'
)
_SECONDS = flags.DEFINE_float('seconds', 10.0, 'Length, up to 3600.')
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Another seed gives other music.', *bounds.SEED
)
_OUT = path_flags.DEFINE_path('out', None, 'WAV file to write.')
_SETTINGS = {
  name: flags.DEFINE_float(name, None, f"{help_} None: the bundle's.")
  for name, help_ in (
    ('temperature_semantic', 'Of the semantic stage.'),
    ('temperature_coarse', 'Of the coarse stage.'),
    ('temperature_fine', 'Of the fine stage.'),
    ('guidance', 'Classifier-free guidance; 1 is off.'),
  )
}
_MULAN_LEVELS = flags.DEFINE_integer(
  'mulan_levels', None, "MuLan levels that are heard. None: the bundle's."
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite',
  False,
  'Replace what is at --out and the .json beside it, whoever wrote them.',
)
_BYTES_PER_SECOND = 48_000


def _check_flags() -> list[str]:
  """The prompts; refuses all that can be before a network is loaded."""
  from musiclm_jax.cascade import prompt
  from musiclm_jax.cascade.length import check_seconds
  from musiclm_jax.cascade.settings import check

  if not _BUNDLE.value:
    raise UsageError('--bundle is missing: give the folder of a bundle')
  texts = [
    prompt.read(text, 'say what to play, such as --text="slow piano"')
    for text in _TEXT.value or ['']
  ]
  check_seconds(_SECONDS.value)
  for flag in _SETTINGS.values():
    if flag.value is not None:
      check(flag.name, flag.value)
  return texts


def _outputs() -> list[Path]:
  """Names the files to write, each of which can be written.

  Raises:
    UsageError: If one cannot, or would replace a file that is not ours.
  """
  from musiclm_jax.cascade import provenance
  from musiclm_jax.contracts import atomic_file
  from musiclm_jax.contracts.paths import check_room

  out = _OUT.value
  if not out:
    raise UsageError('--out is missing: name a WAV file to write')
  if out.suffix.lower() != '.wav':
    raise UsageError(f"--out='{out}': the name must end in .wav")
  paths = [out]
  if len(_TEXT.value) > 1:
    paths = [out.with_stem(f'{out.stem}_{k}') for k in range(len(_TEXT.value))]
  for path in paths:
    provenance.check_out(path, _OVERWRITE.value)
    if not provenance.sidecar(path):
      door.report('no .json beside it, whose name would be too long')
  size = len(paths) * _SECONDS.value * _BYTES_PER_SECOND
  check_room(out, size, 'the sound files')
  atomic_file.remove_leftovers(out.parent)
  return paths


def _read_melody(bundle: Any) -> Any:
  """The waveform of `--melody`, or None.

  Raises:
    UsageError: If it is no sound that can be heard, or the bundle is deaf.
  """
  if _MELODY.value is None:
    return None
  if 'melody' not in bundle.contract.streams:
    raise UsageError(
      f"bundle '{bundle.path}' has no melody networks: leave --melody out, or "
      'train melody and melody_rvq before the tokens are made'
    )
  from musiclm_jax.cascade import melody_prompt

  return melody_prompt.read(_MELODY.value, bundle.contract.streams['melody'])


def _melody(bundle: Any, hummed: Any, words: Any, maker: Any) -> Any:
  """What the generator hears of the melody, said in a line; or None."""
  if hummed is None:
    if maker.melody_stages:
      door.report('no --melody: the language models choose the tune')
    return None
  from musiclm_jax.cascade.melody_prompt import MelodyPrompt

  tune = MelodyPrompt(words, bundle.contract.streams['melody'], hummed)
  door.report(
    f'melody of {tune.seconds:.1f} s, then again from its beginning, heard by '
    + (' and '.join(maker.melody_stages) or 'none')
  )
  return tune


def _melody_about() -> dict[str, str]:
  """What the files say of the melody."""
  if _MELODY.value is None:
    return {}
  path = _MELODY.value
  sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
  return {'melody': path.name, 'melody_sha256': sha256}


@contextlib.contextmanager
def _kept(folder: Path, about: Mapping[str, Any]) -> Iterator[Keep]:
  """Keeps the windows of a generation beside its files until these are there.

  Args:
    folder: Of the files.
    about: All that the music depends on.
  """
  from musiclm_jax.cascade import bundle as bundles
  from musiclm_jax.cascade import source_code

  code = source_code.digest('musiclm_jax.generate', bundles.STAGES)
  everything = json.dumps([about, code], sort_keys=True)
  key = hashlib.sha256(everything.encode()).hexdigest()
  kept = folder / f'.musiclm_jax-{key[:16]}.kept'
  try:
    with KeptParts(kept, key) as keep:
      yield keep
  except BaseException:
    if kept.is_dir():
      door.report(
        f"'{kept}' keeps what was made: the same command goes on with it"
      )
    raise


def main() -> None:
  """Checks everything, then generates and writes."""
  texts = _check_flags()
  paths = _outputs()
  from musiclm_jax.cascade import bundle as bundles

  bundle = bundles.read(_BUNDLE.value)
  changed = {
    name: flag.value
    for name, flag in [*_SETTINGS.items(), ('mulan_levels', _MULAN_LEVELS)]
    if flag.value is not None
  }
  settings = dataclasses.replace(bundle.settings, **changed)
  levels = bundle.contract.streams['mulan'].num_levels
  if not 0 <= settings.mulan_levels <= levels:
    raise UsageError(
      f'--mulan_levels={settings.mulan_levels}: choose 0 to {levels}'
    )
  hummed = _read_melody(bundle)
  from musiclm_jax.cascade import generator, networks, provenance, tokenizer
  from musiclm_jax.data.text import WordPiece as Vocabulary
  from musiclm_jax.launch import devices

  needed = (*tokenizer.TEXT_TOKENIZERS, *generator.NETWORKS)
  if hummed is not None:
    needed += bundles.OPTIONAL
  devices.check()
  door.report(f'loading {bundle.path}')
  loaded = {stage: networks.build(bundle.weights(stage)) for stage in needed}
  words = tokenizer.Tokenizer(loaded, Vocabulary.load(bundle.vocabulary))
  for text in texts:
    for line in words.remarks(text):
      door.report(line)
  maker = generator.Generator(loaded, door.report)
  about = {
    **_melody_about(),
    'seed': _SEED.value,
    'seconds': _SECONDS.value,
    'settings': dataclasses.asdict(settings),
    'bundle_sha256': bundle.sha256,
    'versions': provenance.versions(),
  }
  with _kept(paths[0].parent, about | {'prompts': texts}) as keep:
    music = maker.generate(
      words.encode_text(texts),
      seconds=_SECONDS.value,
      seed=_SEED.value,
      settings=settings,
      melody=_melody(bundle, hummed, words, maker),
      keep=keep,
    )
    for row, (path, text) in enumerate(zip(paths, texts, strict=True)):
      rate, mine = bundle.contract.sample_rate, {'prompt': text, 'row': row}
      provenance.write_wav(path, music.waveform[row], rate, mine | about)
      door.report(f'wrote {path}')


if __name__ == '__main__':
  door.run(main)
