"""Makes the page of a listening test from folders of audio, one a system.

`python -m experiments.listening_test.build --out=PAGE NAME=FOLDER NAME=FOLDER`

Clips are paired by their names without suffix. `--kind=ab` compares every pair
of systems on every clip by five points, as MusicLM §5 did; `--kind=mushra`
scores all systems at once beside a hidden reference, `--reference=NAME`, and
anchors, which are made here. Captions come from the captions.csv of the first
folder that has one, or from `--captions=FILE`. PAGE is a folder that works from
a file server or by opening its index.html; PAGE.key.json says which clip is of
which system: keep it to yourself, the analysis reads it.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import soundfile

from experiments.listening_test import clips
from experiments.listening_test.clips import Clip
from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable

KEY_FORMAT = 'listening_test key 1'
PAGE = Path(__file__).with_name('page')
MOST_STIMULI = 9  # of a MUSHRA trial: one a digit
_AB_QUESTION = (
  'Which clip is described better by the text? Do not judge the quality of the '
  'music or of the sound.'
)
_AB_QUESTION_ALONE = 'Which clip do you prefer?'
_AB_INTRODUCTION = (
  'You will hear two clips at a time and say which of them you prefer, and '
  'whether clearly or slightly.'
)
_MUSHRA_QUESTION = 'How good does each clip sound beside the reference?'
_MUSHRA_INTRODUCTION = (
  'You will hear a reference and several clips, and score each from 0 (bad) to '
  '100 (excellent). One of the clips is the reference itself: it deserves 100.'
)


def trials_of_pairs(
  names: Sequence[str], systems: Sequence[str]
) -> list[list[list[tuple[str, list[str]]]]]:
  """All pairs of systems on all clips, so arranged that any part is balanced.

  Returns:
    Rounds of blocks of (clip, its two systems): a round has every clip once,
    and a whole block every pair once.
  """
  pairs = [list(pair) for pair in itertools.combinations(systems, 2)]
  rounds = []
  for turn in range(len(pairs)):
    trials = [
      (name, pairs[(place + turn) % len(pairs)])
      for place, name in enumerate(names)
    ]
    rounds.append(
      [
        trials[start : start + len(pairs)]
        for start in range(0, len(trials), len(pairs))
      ]
    )
  return rounds


class PageBuilder:
  """Writes clips under names that betray nothing, and remembers whose they are.

  Attributes:
    owners: Id of a clip -> its system and its name.
  """

  def __init__(self, folder: Path, sample_rate: int, seed: int):
    """Writes into `folder`, which is there."""
    self.owners: dict[str, dict[str, str]] = {}
    self._audio = folder / 'audio'
    self._audio.mkdir()
    self._sample_rate = sample_rate
    self._random = random.Random(seed)
    self._ids: dict[tuple[str, str], str] = {}
    self.hashes: dict[str, str] = {}

  def shuffle(self, items: list) -> list:
    """A copy in random order."""
    return self._random.sample(items, len(items))

  def add(self, clip: Clip, system: str) -> str:
    """Writes a clip once as 16-bit WAV without metadata; returns its id."""
    known = (system, clip.name)
    if known not in self._ids:
      found = f'{self._random.getrandbits(64):016x}'
      path = self._audio / f'{found}.wav'
      soundfile.write(path, clip.waveform, self._sample_rate, 'PCM_16')
      os.utime(path, (0, 0))  # the order of writing is nobody's business
      self.hashes[found] = hashlib.sha256(path.read_bytes()).hexdigest()
      self.owners[found] = {'system': system, 'clip': clip.name}
      self._ids[known] = found
    return self._ids[known]


def build(
  systems: dict[str, Path],
  out: Path,
  *,
  kind: str = 'ab',
  key: Path | None = None,
  reference: str | None = None,
  anchors: Sequence[float] = (3500.0,),
  captions: Path | None = None,
  seconds: float | None = 10.0,
  sample_rate: int = 48_000,
  level: str = 'as_is',
  trials_per_rater: int = 0,
  seed: int = 0,
) -> str:
  """Writes the page and its key.

  Args:
    systems: Name -> folder of its clips.
    out: Folder of the page; it must not be there yet.
    kind: `'ab'` or `'mushra'`.
    key: File that says whose each clip is; None: `out` with `.key.json`.
    reference: Name of the system that is MUSHRA's reference.
    anchors: Band limits in Hz of MUSHRA's low-passed references.
    captions: Captions file; None: of the first folder that has one.
    seconds: What is kept of each clip from its beginning; None: all.
    sample_rate: Of all clips of the page, in Hz; all become mono.
    level: `'as_is'`, or `'rms'`: each clip is lowered to the RMS level of the
      softest one of its name.
    trials_per_rater: Of the many; 0: all.
    seed: Of the clips' ids and of the order within the page.

  Returns:
    The page's hash, which its answers bear.

  Raises:
    UsageError: In one line, naming clips that are missing, unreadable or
      without a caption.
  """
  key = key or out.with_name(f'{out.name}.key.json')
  _check(systems, out, key, kind, reference, anchors)
  files = clips.paired(systems)
  texts = clips.captions(systems, files, captions)
  reader = clips.Reader(files, sample_rate, seconds, level)
  with atomic_file.atomic_folder(out) as folder:
    for file in ('index.html', 'page.css', 'page.js'):
      shutil.copyfile(PAGE / file, folder / file)
    builder = PageBuilder(folder, sample_rate, seed)
    if kind == 'ab':
      rounds = _ab_rounds(builder, reader, texts, list(systems))
      question = _AB_QUESTION if texts else _AB_QUESTION_ALONE
      introduction = _AB_INTRODUCTION
    else:
      rounds = _mushra_rounds(builder, reader, texts, reference, anchors)
      question, introduction = _MUSHRA_QUESTION, _MUSHRA_INTRODUCTION
    test = {
      'kind': kind,
      'question': question,
      'introduction': introduction,
      'trials_per_rater': trials_per_rater,
      'rounds': rounds,
    }
    test['hash'] = _hash(test, builder.hashes)
    text = json.dumps(test, indent=1)
    (folder / 'trials.js').write_text(f'const LISTENING_TEST = {text};\n')
    written = {
      'format': KEY_FORMAT,
      'page': test['hash'],
      'kind': kind,
      'reference': reference,
      'systems': sorted({o['system'] for o in builder.owners.values()}),
      'settings': {
        'seconds': seconds,
        'sample_rate': sample_rate,
        'level': level,
        'seed': seed,
        'trials_per_rater': trials_per_rater,
      },
      'clips': builder.owners,
    }
    atomic_file.write_text(key, json.dumps(written, indent=1) + '\n')
  for remark in reader.remarks():
    print(printable(remark), file=sys.stderr)
  return test['hash']


def _ab_rounds(
  builder: PageBuilder,
  reader: clips.Reader,
  texts: dict[str, str],
  systems: list[str],
) -> list:
  # All clips of a name are read together, which levels may need.
  ids = {
    name: {
      system: builder.add(clip, system)
      for system, clip in builder.shuffle(list(reader.read(name).items()))
    }
    for name in builder.shuffle(list(reader.files))
  }

  def trial(name: str, pair: list[str]) -> dict:
    shown = builder.shuffle([ids[name][system] for system in pair])
    return {'caption': texts.get(name, ''), 'clips': shown}

  return [
    [[trial(*one) for one in builder.shuffle(block)] for block in blocks]
    for blocks in trials_of_pairs(list(ids), builder.shuffle(systems))
  ]


def _mushra_rounds(
  builder: PageBuilder,
  reader: clips.Reader,
  texts: dict[str, str],
  reference: str,
  anchors: Sequence[float],
) -> list:
  trials = []
  for name in builder.shuffle(list(reader.files)):
    stimuli = reader.read(name)
    original = stimuli[reference]
    for hz in anchors:
      stimuli[anchor_name(hz)] = clips.low_passed(
        original, hz, reader.sample_rate
      )
    shown = [
      builder.add(clip, system)
      for system, clip in builder.shuffle(list(stimuli.items()))
    ]
    trials.append(
      {
        'caption': texts.get(name, ''),
        'reference': builder.add(original, f'open {reference}'),
        'clips': shown,
      }
    )
  return [[trials]]


def anchor_name(hz: float) -> str:
  """Name of an anchor among the systems."""
  return f'anchor {hz:g} Hz'


def _hash(test: dict, hashes: dict[str, str]) -> str:
  """Of all that raters read and hear, and of the page's code."""
  parts = [test, sorted(hashes.items())]
  parts += [(PAGE / name).read_text() for name in ('index.html', 'page.js')]
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _check(
  systems: dict[str, Path],
  out: Path,
  key: Path,
  kind: str,
  reference: str | None,
  anchors: Sequence[float],
) -> None:
  if os.path.lexists(out):
    raise UsageError(f"'{printable(out)}' is there already: give a new --out")
  if key.resolve().is_relative_to(out.resolve()):
    raise UsageError(
      f"--key='{printable(key)}' lies in the page, where raters could read it: "
      'give a place outside'
    )
  if os.path.lexists(key):
    raise UsageError(
      f"'{printable(key)}' is there already, and without it the answers of its "
      'page could not be read: give a new --key'
    )
  if kind == 'ab':
    if len(systems) < 2:
      raise UsageError(
        f'a comparison needs 2 systems or more, got {len(systems)}: give '
        'NAME=FOLDER for each'
      )
    return
  if reference not in systems:
    raise UsageError(
      f'MUSHRA needs a reference of the systems {", ".join(systems)}, got '
      f"'{printable(reference or '')}': give --reference=NAME"
    )
  stimuli = len(systems) + len(anchors)
  if not 2 <= stimuli <= MOST_STIMULI:
    raise UsageError(
      f'MUSHRA compares 2 to {MOST_STIMULI} clips, got {stimuli} with the '
      'reference and the anchors: give other systems or --anchors'
    )


def _systems(given: Sequence[str]) -> dict[str, Path]:
  found: dict[str, Path] = {}
  for one in given:
    name, equals, folder = one.partition('=')
    if not (name and equals and folder):
      raise UsageError(f"expected NAME=FOLDER, got '{printable(one)}'")
    if name in found:
      raise UsageError(f"two systems are called '{printable(name)}'")
    found[name] = Path(folder)
  return found


def _anchors(given: str) -> tuple[float, ...]:
  try:
    return tuple(float(hz) for hz in given.split(',') if hz)
  except ValueError:
    raise UsageError(
      f"--anchors='{printable(given)}': expected numbers of Hz with commas"
    ) from None


def main() -> None:
  """Builds a page and says where it is."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('systems', nargs='+', metavar='NAME=FOLDER')
  parser.add_argument('--out', type=Path, required=True)
  parser.add_argument('--key', type=Path)
  parser.add_argument('--kind', choices=('ab', 'mushra'), default='ab')
  parser.add_argument('--reference')
  parser.add_argument('--anchors', default='3500', help='Hz, with commas')
  parser.add_argument('--captions', type=Path)
  parser.add_argument('--seconds', type=float, default=10.0, help='0: all')
  parser.add_argument('--sample_rate', type=int, default=48_000)
  parser.add_argument('--level', choices=('as_is', 'rms'), default='as_is')
  parser.add_argument('--trials', type=int, default=0, help='0: all')
  parser.add_argument('--seed', type=int, default=0)
  given = parser.parse_args()
  if given.seconds < 0 or given.trials < 0 or given.sample_rate < 8000:
    raise UsageError(
      '--seconds and --trials must not be below 0, nor --sample_rate below '
      f'8000: got {given.seconds:g}, {given.trials} and {given.sample_rate}'
    )
  found = build(
    _systems(given.systems),
    given.out,
    kind=given.kind,
    key=given.key,
    reference=given.reference,
    anchors=_anchors(given.anchors),
    captions=given.captions,
    seconds=given.seconds or None,
    sample_rate=given.sample_rate,
    level=given.level,
    trials_per_rater=given.trials,
    seed=given.seed,
  )
  print(f"'{printable(given.out)}' is the page of hash {found[:8]}")


if __name__ == '__main__':
  try:
    main()
  except (UsageError, OSError) as error:
    sys.exit(f'error: {printable(error)}')
