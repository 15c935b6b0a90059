"""MusicCaps: the published CSV and a folder of clips -> pairs with captions.

musiccaps.csv -> `MusicCapsRow` by ytid; a folder, whose files are named by ytid
in one of the common ways -> `SongClips`, a `ClipFolder` whose names are ytids,
so that references, generated clips and captions meet whatever the files are
called.
"""

import csv
import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.evaluation import held_out, published
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.results import Results

NUM_SONGS = 5521  # of the published CSV
SECONDS = 10.0  # of each clip
COLUMNS = (
  *('ytid', 'start_s', 'end_s', 'caption'),
  *('is_balanced_subset', 'is_audioset_eval'),
)
_TRUTH = {'true': True, '1': True, 'false': False, '0': False}
# A ytid has 11 characters, some of which are - and _ themselves. Behind it may
# stand the seconds or milliseconds of the part.
_STEM = re.compile(
  r'(?:\[(?P<boxed>[\w-]{11})\]|(?P<bare>[\w-]{11}))'
  r'(?:[-_. ]*\[?(?P<start>\d+(?:\.\d+)?)(?:[-_](?P<end>\d+(?:\.\d+)?))?\]?)?',
  re.ASCII,
)


@dataclasses.dataclass(frozen=True)
class MusicCapsRow:
  """A row of the CSV.

  Attributes:
    ytid: Of the video, 11 characters.
    start_seconds: Where the clip begins in it.
    caption: What a musician wrote of it.
    is_eval: Whether it is of AudioSet's evaluation split, else of training.
    is_balanced: Whether it is of the subset that is balanced over genres.
  """

  ytid: str
  start_seconds: float
  caption: str
  is_eval: bool
  is_balanced: bool


SPLITS = ('all', 'eval', 'train', 'balanced')


def is_in(song: MusicCapsRow, split: str) -> bool:
  """Whether a song is of one of `SPLITS`."""
  return {
    'all': True,
    'eval': song.is_eval,
    'train': not song.is_eval,
    'balanced': song.is_balanced,
  }[split]


def read(path: Path) -> dict[str, MusicCapsRow]:
  """Reads the CSV.

  Args:
    path: Of the published file, or of one with the same columns.

  Returns:
    Songs by ytid, in the order of the file.

  Raises:
    UsageError: If it is missing, no CSV, lacks a column, holds no row, or a
      row cannot be read or repeats a ytid.
  """
  try:
    with path.open(encoding='utf-8-sig', newline='') as file:
      rows = csv.DictReader(file)
      missing = [
        name for name in COLUMNS if name not in (rows.fieldnames or ())
      ]
      if missing:
        raise UsageError(
          f"--musiccaps='{printable(path)}' has no column "
          f'{", ".join(missing)}: give musiccaps-public.csv as it is published'
        )
      songs: dict[str, MusicCapsRow] = {}
      for row in rows:
        song = _song(row, f'{printable(path)}, line {rows.line_num}')
        if song.ytid in songs:
          raise UsageError(
            f"{printable(path)}, line {rows.line_num}: '{song.ytid}' stands "
            'there twice: keep one row of each ytid'
          )
        songs[song.ytid] = song
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise UsageError(
      f"--musiccaps='{printable(path)}' cannot be read ({printable(error)}): "
      'give musiccaps-public.csv as it is published'
    ) from error
  if not songs:
    raise UsageError(f"--musiccaps='{printable(path)}' holds no row")
  return songs


def _song(row: Mapping[str, str | None], where: str) -> MusicCapsRow:
  texts = {name: (row[name] or '').strip() for name in COLUMNS}
  for name in ('ytid', 'caption'):
    if not texts[name]:
      raise UsageError(f'{where}: {name} is empty')
  flags = {}
  for name in ('is_balanced_subset', 'is_audioset_eval'):
    if (flag := _TRUTH.get(texts[name].lower())) is None:
      raise UsageError(
        f"{where}: {name} is '{printable(texts[name])}', expected True or False"
      )
    flags[name] = flag
  try:
    start = float(texts['start_s'])
  except ValueError as error:
    raise UsageError(
      f"{where}: start_s is '{printable(texts['start_s'])}', expected seconds"
    ) from error
  return MusicCapsRow(
    texts['ytid'],
    start,
    texts['caption'],
    is_eval=flags['is_audioset_eval'],
    is_balanced=flags['is_balanced_subset'],
  )


def song_of(name: str, songs: Mapping[str, MusicCapsRow]) -> str | None:
  """The ytid that the name of a file says, None where it is no clip of these.

  Known are `ytid`, `Yytid`, `[ytid]-[start-end]`, `ytid_start`,
  `ytid_start_end` and the same with `-`, in seconds or milliseconds, at any
  depth of folders. A start that is not the CSV's is another part of the video.

  Args:
    name: Of a file, relative to its folder.
    songs: By ytid.
  """
  stem = PurePosixPath(name).stem
  # A ytid may begin with Y itself: the name as it is comes first.
  for told in dict.fromkeys([stem, stem.removeprefix('Y')]):
    found = _STEM.fullmatch(told)
    song = found and songs.get(found['boxed'] or found['bare'])
    if not song:
      continue
    start = found['start'] and float(found['start'])
    if start in (None, song.start_seconds, 1000 * song.start_seconds):
      return song.ytid
  return None


class SongClips(ClipFolder):
  """The clips of MusicCaps in a folder; their names are ytids.

  Which of them are taken can be narrowed by `choose`.

  Attributes:
    others: Names of files that are sound and no clip of these songs.
  """

  def __init__(self, path: Path, songs: Mapping[str, MusicCapsRow]):
    """Scans the folder.

    Args:
      path: Of the folder.
      songs: By ytid.

    Raises:
      UsageError: If there is no clip of them, or two of one song.
    """
    super().__init__(path)
    self._songs = songs
    self._places: dict[str, int] = {}
    self.others: list[str] = []
    for place, name in enumerate(self.names):
      ytid = song_of(name, songs)
      if ytid is None:
        self.others.append(name)
      elif ytid in self._places:
        raise UsageError(
          f"'{printable(path)}' has both "
          f"'{printable(self.names[self._places[ytid]])}' and "
          f"'{printable(name)}' of song '{ytid}': keep one"
        )
      else:
        self._places[ytid] = place
    if not self._places:
      raise UsageError(
        f"no file of '{printable(path)}' is named as a clip of MusicCaps, such "
        f'as {next(iter(songs))}.wav: there are '
        + first_few([printable(name) for name in self.others])
      )
    self.names = [ytid for ytid in songs if ytid in self._places]

  def choose(self, ytids: Collection[str]) -> int:
    """Leaves only the clips of these songs; returns how many are left."""
    self.names = [ytid for ytid in self.names if ytid in ytids]
    return len(self.names)

  def place(self, index: int) -> int:
    """Where a clip stands in `source`."""
    return self._places[self.names[index]]

  def caption(self, index: int) -> str:
    """What MusicCaps says of a clip."""
    return self._songs[self.names[index]].caption


@dataclasses.dataclass(frozen=True)
class MusicCaps:
  """MusicCaps, as far as clips of it are there.

  Attributes:
    songs: All of the CSV, by ytid.
    split: One of `SPLITS`, that is measured.
    found: Ytids whose reference is there, of all splits.
    inputs: With `SongClips` of the same songs on both sides.
    name: Of what is measured, in the table.
  """

  songs: Mapping[str, MusicCapsRow]
  split: str
  found: tuple[str, ...]
  inputs: EvaluationInputs
  name: str

  def add_table(self, results: Results, windowing: str) -> list[str]:
    """Puts what was found into the details, and makes the paper's table.

    Args:
      results: Of all measures.
      windowing: Of FAD, of `embedders.WINDOWINGS`.

    Returns:
      Lines for people.
    """
    found = counts(self.songs, self.found)
    measured = len(self.inputs.generated or ())
    lines = published.table(
      results,
      name=self.name,
      windowing=windowing,
      counts=found,
      split=self.split,
      songs=measured,
      whole=self.split == 'all' and len(self.songs) == NUM_SONGS,
    )
    results.details['musiccaps'] = {
      'clips_found': {k: {'n': n, 'of': of} for k, (n, of) in found.items()},
      'split': self.split,
      'n': measured,
      'table': lines,
    }
    return lines


def open_songs(
  inputs: EvaluationInputs, csv_file: Path, split: str, made: Path | None
) -> MusicCaps:
  """Takes from both folders the clips of a split that can be compared.

  Args:
    inputs: With a folder as reference; without generated clips the bundle
      makes them.
    csv_file: See `read`.
    split: One of `SPLITS`.
    made: Folder for the clips that the bundle makes.

  Raises:
    UsageError: If the CSV or the reference is no such thing, no clip is left,
      or there are neither generated clips nor a bundle and a place for them.
  """
  songs = read(csv_file)
  ours = SongClips(inputs.reference_folder('--musiccaps').path, songs)
  found = tuple(ours.names)
  ours = _chosen(ours, {s.ytid for s in songs.values() if is_in(s, split)})
  if inputs.generated is not None:
    theirs = SongClips(inputs.generated.path, songs)
    name = theirs.path.name
  else:
    if inputs.model is None or made is None:
      raise UsageError(
        '--musiccaps measures clips: give --generated=DIR, or --bundle=DIR and '
        '--json=FILE, beside which the clips that it makes are kept'
      )
    asked = [
      held_out.PromptedClip(f'{ytid}.wav', songs[ytid].caption)
      for ytid in ours.names
    ]
    held_out.generate(
      made,
      inputs.model,
      asked,
      seconds=SECONDS,
      seed=inputs.seed,
      keep_others=True,
      progress=inputs.progress,
      report=inputs.report,
    )
    theirs, name = SongClips(made, songs), inputs.model.bundle.path.name
  made_ones = set(theirs.names)
  lacking = [ytid for ytid in ours.names if ytid not in made_ones]
  if lacking:
    inputs.report(
      f'{len(lacking)} references have no generated clip and are left out: '
      + first_few(lacking)
    )
  theirs = _chosen(theirs, set(ours.names))
  ours = _chosen(ours, set(theirs.names))
  for folder in (ours, theirs):
    if folder.others:
      inputs.report(
        f'{len(folder.others)} files of {printable(folder.path)} are no clips '
        'of MusicCaps, or other parts of their videos, and are left out: '
        + first_few([printable(name) for name in folder.others])
      )
  inputs = dataclasses.replace(inputs, reference=ours, generated=theirs)
  return MusicCaps(songs, split, found, inputs, name)


def _chosen(clips: SongClips, ytids: Collection[str]) -> SongClips:
  """Those of some songs.

  Raises:
    UsageError: If none is left.
  """
  if not clips.choose(ytids):
    raise UsageError(
      f"'{printable(clips.path)}' has no clip of what is compared: choose "
      'another --musiccaps_split, or complete the folders'
    )
  return clips


def counts(
  songs: Mapping[str, MusicCapsRow], found: Iterable[str]
) -> dict[str, tuple[int, int]]:
  """How many clips of each split are found: split -> (found, of so many)."""
  there = set(found)
  of_split = {
    split: [s.ytid for s in songs.values() if is_in(s, split)]
    for split in SPLITS
  }
  return {
    split: (len(there.intersection(ytids)), len(ytids))
    for split, ytids in of_split.items()
  }
