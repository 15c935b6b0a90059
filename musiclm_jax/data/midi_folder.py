"""A folder of MIDI files as a source of music, rendered on reading.

*.mid at any depth -> mono float32 [n] at 24 kHz, by the synthesizer that
performs our own pieces. Splits are drawn by a hash of the relative path.
"""

import dataclasses
import functools
import hashlib
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data import parser_process
from musiclm_jax.data.folder_listing import Listing, list_files, some, why_none
from musiclm_jax.rendered_music import synthesis

SAMPLE_RATE = synthesis.SAMPLE_RATE
SUFFIXES = ('.mid', '.midi')
MIN_SECONDS, MAX_SECONDS = 1.0, 3600.0
TAIL_SECONDS = 1.0
_SPARE = 4096  # bytes after a file
PEAK = 0.9
_CACHED_PIECES = 4  # rendered audio kept by each source
_RENDER_CPU_SECONDS = 600.0  # many tracks of an hour take minutes
_BOUNDS = {'train': (0.0, 0.8), 'validation': (0.8, 0.9), 'test': (0.9, 1.0)}
_MIN_FILES = 3  # one a split


@dataclasses.dataclass(frozen=True)
class MidiFile:
  """A readable file.

  Attributes:
    name: Path relative to the folder, with `/`.
    num_samples: Length at 24 kHz, the last note's tail included.
  """

  name: str
  num_samples: int


class MidiFolder:
  """Reads one split of a folder of MIDI files; see `sources.Source`."""

  def __init__(self, folder: str, split: str, sample_rate: int = SAMPLE_RATE):
    """Scans the folder; broken files are counted and reported once.

    Args:
      folder: Searched recursively.
      split: `'train'`, `'validation'` or `'test'` (80, 10, 10 %).
      sample_rate: 24,000, at which files are rendered.

    Raises:
      UsageError: If the rate is another, or the folder has fewer readable
        MIDI files than splits.
    """
    if sample_rate != SAMPLE_RATE:
      raise UsageError(
        f'MIDI files are rendered at {SAMPLE_RATE} Hz, asked for {sample_rate}'
      )
    self.sample_rate = SAMPLE_RATE
    self._folder = Path(folder)
    self._files = _of_split(scan(folder), split)
    self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
    self._lock = threading.Lock()
    self._reported: set[str] = set()

  def __len__(self) -> int:
    """Counts the files of the split."""
    return len(self._files)

  def piece_id(self, i: int) -> str:
    """Names a file by its path relative to the folder."""
    return self._files[i].name

  def num_samples(self, i: int) -> int:
    """Tells the length of the rendered file."""
    return self._files[i].num_samples

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads [start, start + num_samples) of a file, float32, zero-padded.

    The file is rendered whole once and kept while it is one of the last few.
    What cannot be rendered is silence, reported once a file.
    """
    sound = self._rendered(i)
    if num_samples is None:
      num_samples = max(len(sound) - start, 0)
    part = sound[start : start + num_samples]
    out = np.zeros(num_samples, np.float32)
    out[: len(part)] = part
    return out

  def caption(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> None:
    """Says nothing: MIDI files come without captions."""
    del i, start_seconds, end_seconds, rng

  def num_captioned(self) -> int:
    """Counts none."""
    return 0

  def path(self, i: int) -> Path:
    """Tells where the file is."""
    return self._folder / self._files[i].name

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists none."""
    del i
    return ()

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable] | None:
    """Says nothing: nobody has described the files."""
    del i, start_seconds, end_seconds
    return None

  def _rendered(self, i: int) -> np.ndarray:
    with self._lock:
      if i in self._cache:
        self._cache.move_to_end(i)
        return self._cache[i]
    file = self._files[i]
    try:
      sound = parser_process.call(
        _render_file,
        os.path.abspath(self._folder / file.name),
        file.num_samples,
        seconds=_RENDER_CPU_SECONDS,
      )
    except parser_process.ParserError as error:
      sound = np.zeros(file.num_samples, np.float32)
      self._report(file.name, error)
    with self._lock:
      self._cache[i] = sound
      while len(self._cache) > _CACHED_PIECES:
        self._cache.popitem(last=False)
    return sound

  def _report(self, name: str, error: Exception) -> None:
    with self._lock:
      if name in self._reported:
        return
      self._reported.add(name)
    _say(
      f'{printable(name)}: cannot be rendered ({printable(error)}); silence is '
      'used in its place'
    )


def scan(folder: str | os.PathLike) -> tuple[MidiFile, ...]:
  """Lists the readable MIDI files of a folder, sorted by path.

  Files that are corrupt, empty of notes, shorter than a second or longer than
  an hour are skipped; how many, and the first of them, is said on stderr, once
  a process.

  Raises:
    UsageError: If there are fewer than three readable files.
  """
  listing = list_files(folder, SUFFIXES)
  shown = printable(folder)
  if not listing.files:
    raise UsageError(
      f"folder '{shown}' holds no MIDI files: {why_none(listing)}; put "
      f'{", ".join(SUFFIXES)} files into it'
    )
  good = _scan(Path(folder).resolve(), listing)
  if len(good) < _MIN_FILES:
    raise UsageError(
      f'{shown} has {len(good)} readable MIDI files ({", ".join(SUFFIXES)}) of '
      f'{len(listing.files)}: give at least {_MIN_FILES}, one a split'
    )
  return good


@functools.lru_cache(maxsize=4)
def _scan(folder: Path, listing: Listing) -> tuple[MidiFile, ...]:
  good, broken = probe_all(folder, listing)
  broken = sorted([*broken, *listing.unusable])
  shown = printable(folder)
  if broken:
    count = len(good) + len(broken)
    _say(
      f'{shown}: skipped {len(broken)} of {count} MIDI files: {some(broken)}'
    )
  if listing.closed:
    _say(f'{shown}: folders cannot be entered: {some(listing.closed)}')
  return good


def probe_all(
  folder: Path, listing: Listing
) -> tuple[tuple[MidiFile, ...], list[tuple[str, str]]]:
  """Parses files in processes that may die.

  Returns:
    The readable ones; (name, reason) of the others.
  """
  rows = sorted(listing.files, key=lambda file: file[0].split('/'))
  probed = parser_process.call_all(
    _seconds,
    [(str(folder / name),) for name, _, _ in rows],
    [parser_process.CPU_SECONDS for _ in rows],
  )
  good, broken = [], []
  for (name, _, _), seconds in zip(rows, probed, strict=True):
    if isinstance(seconds, parser_process.ParserError):
      broken.append((name, str(seconds)))
    elif MIN_SECONDS <= seconds <= MAX_SECONDS:
      length = int((seconds + TAIL_SECONDS) * SAMPLE_RATE)
      good.append(MidiFile(name, length))
    else:
      broken.append((name, f'lasts {seconds:.1f} s'))
  return tuple(good), broken


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _seconds(path: str) -> float:
  return float(_load(Path(path)).end())


def _render_file(path: str, num_samples: int) -> np.ndarray:
  return _render(_load(Path(path)), num_samples)


def _load(path: Path):
  """A score in seconds; raises whatever the parser raises."""
  from symusic import Score

  data = path.read_bytes()
  if data[:4] != b'MThd':
    raise ValueError('no MIDI header')
  # Of a broken file the parser reads past the end: let zeros be there, so that
  # what it finds does not differ from time to time.
  score = Score.from_midi(data + bytes(_SPARE), ttype='second')
  if not any(len(track.notes) for track in score.tracks):
    raise ValueError('no notes')
  return score


def _render(score, num_samples: int) -> np.ndarray:
  """Plays all tracks and scales the sum to a peak of at most 0.9."""
  total = np.zeros(num_samples, np.float32)
  for track in score.tracks:
    columns = track.notes.numpy()
    notes = np.stack(
      [
        columns[name].astype(float)
        for name in ('time', 'duration', 'pitch', 'velocity')
      ],
      axis=1,
    )
    total += _volume(track) * synthesis.render(
      notes, int(track.program), bool(track.is_drum), num_samples
    )
  peak = float(np.abs(total).max(initial=0.0))
  return total * np.float32(PEAK / peak) if peak > PEAK else total


def _volume(track) -> np.float32:
  """Gain of a track from its first volume controller (7), 1 at 100."""
  values = [c.value for c in track.controls if c.number == 7]
  return np.float32(((values[0] if values else 100) / 100) ** 2)


def _of_split(files: tuple[MidiFile, ...], split: str) -> list[MidiFile]:
  """The files whose path's hash falls into the split.

  In a small folder whose hashes leave a split empty, ranks of the hashes
  decide instead, so that every split has a file.
  """
  places = {f.name: _place(f.name) for f in files}
  if len({_split_at(place) for place in places.values()}) < len(_BOUNDS):
    order = sorted(places, key=places.__getitem__)
    last = len(order) - 1
    ranks = {name: 0.0 for name in order}
    ranks |= {order[last - 1]: 0.8, order[last]: 0.9}
    places = ranks
  return [f for f in files if _split_at(places[f.name]) == split]


def _place(name: str) -> float:
  """A number in [0, 1) that depends on the path alone."""
  digest = hashlib.sha256(paths.name_to_bytes(name)).digest()
  return int.from_bytes(digest[:8], 'big') / 2**64


def _split_at(place: float) -> str:
  return next(s for s, (low, high) in _BOUNDS.items() if low <= place < high)
