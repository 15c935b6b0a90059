"""A folder of sound files as a source of music, resampled on reading.

wav, flac, mp3, ogg, … at any depth -> mono float32 [n] at the rate asked for.
Splits are drawn by a hash of the relative path, so a file stays in its split
when others are added. `captions.csv` (path,caption; several rows a file
allowed) beside the files is optional.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data import audio_file, captions_file, parser_process
from musiclm_jax.data.audio_file import Sound
from musiclm_jax.data.folder_listing import Listing, list_files, some, why_none

MIN_FILES = 3  # one a split
_BOUNDS = {'train': (0.0, 0.8), 'validation': (0.8, 0.9), 'test': (0.9, 1.0)}
# Sound of which libsndfile knows nothing.
_UNREAD = (
  *('.3gp', '.aac', '.ac3', '.alac', '.amr', '.ape', '.dff', '.dsf', '.dts'),
  *('.eac3', '.m4a', '.m4b', '.m4p', '.m4r', '.mka', '.mkv', '.mov', '.mp4'),
  *('.mpc', '.mpga', '.ra', '.shn', '.spx', '.tak', '.tta', '.weba', '.webm'),
  *('.wma', '.wv'),
)


class AudioFolder:
  """Reads one split of a folder of sound files; see `sources.Source`."""

  def __init__(self, folder: str, split: str, sample_rate: int = 24000):
    """Scans the folder; what is not read of it is counted and reported once.

    Args:
      folder: Searched recursively.
      split: `'train'`, `'validation'` or `'test'` (80, 10, 10 %), or `'all'`,
        for which one file suffices.
      sample_rate: Of what `read` returns, in Hz.

    Raises:
      UsageError: If the folder has no sound files, or fewer readable ones
        than splits.
    """
    self.sample_rate = sample_rate
    self._folder = Path(folder)
    good = scan(folder)
    self._all_names = tuple(name for name, _ in good)
    if split != 'all':
      splits = _splits(self._all_names)
      good = tuple(file for file in good if splits[file[0]] == split)
    self._names = [name for name, _ in good]
    self._sounds = [sound for _, sound in good]
    self._reported: set[str] = set()

  def __len__(self) -> int:
    """Counts the files of the split."""
    return len(self._names)

  def piece_id(self, i: int) -> str:
    """Names a file by its path relative to the folder."""
    return self._names[i]

  def num_samples(self, i: int) -> int:
    """Tells the length at `sample_rate`, rounded down."""
    return self._sounds[i].num_samples(self.sample_rate)

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads [start, start + num_samples) without decoding what is before.

    Parts of a file are, up to rounding, parts of the whole. A stretch that
    cannot be decoded is silence, reported once a file.

    Returns:
      float32 [num_samples] in [-1, 1], zeros past the end.
    """
    name, sound = self._names[i], self._sounds[i]
    if num_samples is None:
      num_samples = max(self.num_samples(i) - start, 0)
    try:
      waveform, reason = parser_process.call(
        audio_file.read_stretch,
        os.path.abspath(self._folder / name),
        sound,
        start,
        num_samples,
        self.sample_rate,
        seconds=parser_process.cpu_seconds(sound.size),
      )
    except parser_process.ParserError as error:
      waveform, reason = np.zeros(num_samples, np.float32), str(error)
    if reason and name not in self._reported:
      self._reported.add(name)
      _report(
        f'{name}: cannot be decoded at {start / self.sample_rate:.1f} s '
        f'({reason}); silence is used in its place'
      )
    return waveform

  def caption(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> str | None:
    """Draws one of the file's captions; None if captions.csv has none.

    Raises:
      UsageError: If captions.csv cannot be read as it was meant.
    """
    del start_seconds, end_seconds
    captions = self.written_captions(i)
    return captions[rng.integers(len(captions))] if captions else None

  def num_captioned(self) -> int:
    """Counts the files of the split that have a caption.

    Raises:
      UsageError: As `caption`.
    """
    return sum(map(bool, map(self.written_captions, range(len(self)))))

  def path(self, i: int) -> Path:
    """Tells where the file is."""
    return self._folder / self._names[i]

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists the file's captions, in the order of captions.csv.

    Raises:
      UsageError: As `caption`.
    """
    return self._captions.get(self._names[i], ())

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable] | None:
    """Knows nothing about what is audible in a crop."""
    del i, start_seconds, end_seconds

  @functools.cached_property
  def _captions(self) -> Mapping[str, tuple[str, ...]]:
    """Captions by file; read when first asked for, as few stages need them."""
    return captions_file.of_folder(self._folder, self._all_names)


def scan(folder: str | os.PathLike) -> tuple[tuple[str, Sound], ...]:
  """Finds the readable sound files of a folder, sorted by path.

  What is skipped or unusual is counted and reported on stderr, once a process.

  Returns:
    (path relative to the folder, with `/`; what is known of the file).

  Raises:
    UsageError: If there is no readable sound file, with the cause.
  """
  listing = list_files(folder, audio_file.SUFFIXES)
  if not listing.files:
    shown = ', '.join(audio_file.SUFFIXES)
    raise UsageError(
      f"folder '{printable(folder)}' holds no audio: "
      f'{why_none(listing, _unread(listing))}; put {shown} files into it'
    )
  return _scan(Path(folder).resolve(), listing)


@functools.lru_cache(maxsize=4)
def _scan(folder: Path, listing: Listing) -> tuple[tuple[str, Sound], ...]:
  """Probes the listed files; cached as each split asks for the same scan."""
  good, broken = probe_all(folder, listing)
  broken = sorted([*broken, *listing.unusable])
  count = len(good) + len(broken)
  if not good:
    raise UsageError(
      f"folder '{printable(folder)}' holds no readable audio: all {count} "
      f'files are broken: {some(broken)}'
    )
  odd = [(name, sound.remark) for name, sound in good if sound.remark]
  if broken:
    _report(f'{folder}: skipped {len(broken)} of {count} files: {some(broken)}')
  if odd:
    _report(
      f'{folder}: {len(odd)} of {count} files are read, but unusual: '
      + some(odd)
    )
  if unread := _unread(listing):
    _report(f'{folder}: {unread}')
  if listing.closed:
    _report(f'{folder}: folders cannot be entered: {some(listing.closed)}')
  return good


def probe_all(
  folder: Path, listing: Listing
) -> tuple[tuple[tuple[str, Sound], ...], list[tuple[str, str]]]:
  """Probes files in processes that may die.

  Returns:
    (name, what is known) of the readable ones; (name, reason) of the others.
  """
  names = [name for name, _, _ in listing.files]
  probed = parser_process.call_all(
    audio_file.probe,
    [(str(folder / name),) for name in names],
    [parser_process.cpu_seconds(size) for _, size, _ in listing.files],
  )
  pairs = list(zip(names, probed, strict=True))
  good = tuple(pair for pair in pairs if isinstance(pair[1], Sound))
  broken = [
    (name, str(found)) for name, found in pairs if not isinstance(found, Sound)
  ]
  return good, broken


def _unread(listing: Listing) -> str:
  """Counts the files of kinds that are sound but cannot be read."""
  kinds = [pair for pair in listing.others if pair[0] in _UNREAD]
  if not kinds:
    return ''
  shown = ', '.join(f'{suffix} {number}' for suffix, number in kinds)
  return f'kinds of files that are not read: {shown}; convert them to flac'


def _report(line: str) -> None:
  print(printable(line), file=sys.stderr, flush=True)


def _splits(names: Sequence[str]) -> dict[str, str]:
  """Assigns a split to each file by the hash of its path.

  A split that the hash leaves empty takes the file nearest to its share of
  the unit interval from the fullest split.
  """
  if len(names) < MIN_FILES:
    raise UsageError(
      f'{len(names)} readable sound file(s) cannot be divided into train, '
      f'validation and test: bring at least {MIN_FILES}, or cut a long file '
      'into several'
    )
  places = {name: _unit_hash(name) for name in names}
  splits = {
    name: next(s for s, (low, high) in _BOUNDS.items() if low <= u < high)
    for name, u in places.items()
  }
  for split, (low, high) in _BOUNDS.items():
    taken = list(splits.values())
    if split not in taken:
      fullest = max(_BOUNDS, key=taken.count)
      middle = (low + high) / 2
      donors = [name for name in splits if splits[name] == fullest]
      nearest = min(donors, key=lambda n: (abs(places[n] - middle), n))
      splits[nearest] = split
  return splits


def _unit_hash(name: str) -> float:
  """Hashes a path to [0, 1), the same on every machine."""
  digest = hashlib.blake2b(paths.name_to_bytes(name), digest_size=6).digest()
  return int.from_bytes(digest, 'big') / 2**48
