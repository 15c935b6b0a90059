"""A folder of files as a source of music: scanned, split, read by parsers.

files at any depth -> probed in processes that may crash -> one split of them

Splits are drawn by a hash of the relative path, so a file stays in its split
when others are added.
"""

import dataclasses
import functools
import hashlib
import math
import os
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import name_to_bytes
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data import captions_file, parser_process
from musiclm_jax.data.folder_listing import Listing, list_files, some, why_none

MIN_FILES = 3  # one a split
_OTHER_KIND = 'a kind of file that is not read: convert it to flac'
_BOUNDS = {'train': (0.0, 0.8), 'validation': (0.8, 0.9), 'test': (0.9, 1.0)}


class ReadableFile(Protocol):
  """What probing has found out about a readable file.

  Attributes:
    remark: What is unusual about it, for the user; else empty.
  """

  remark: str

  def num_samples(self, sample_rate: int) -> int:
    """Tells the length at a rate."""


def _blake2b(name: bytes) -> bytes:
  return hashlib.blake2b(name, digest_size=6).digest()


@dataclasses.dataclass(frozen=True)
class FileKind:
  """A kind of files that music is read from.

  Attributes:
    name: In messages, such as `'audio'`.
    suffixes: In lower case and with the dot.
    probe: Path -> a `ReadableFile`, or a reason why it is none; may crash.
    unread: Suffixes of related kinds, which no parser here reads.
    digest: Name as bytes -> bytes; the number that they are decides the split.
      Token stores and trainings rely on that it stays as it is.
    order: Name -> what files are sorted by.
  """

  name: str
  suffixes: tuple[str, ...]
  probe: Callable[[str], ReadableFile | str]
  unread: tuple[str, ...] = ()
  digest: Callable[[bytes], bytes] = _blake2b
  order: Callable[[str], Any] = str


@dataclasses.dataclass(frozen=True)
class Scan:
  """What a folder holds of a kind.

  Attributes:
    files: Path relative to the folder, with `/`, and what is known of the
      readable ones, sorted.
    broken: Such a path, and the reason, of all else: of files that cannot be
      read, of kinds that are not read, of folders that cannot be entered.
  """

  files: tuple[tuple[str, ReadableFile], ...]
  broken: tuple[tuple[str, str], ...] = ()


class FileFolder:
  """One split of a folder of files of a kind; see `sources.Source`.

  A subclass names its kind and decodes.

  Attributes:
    stretch_seconds: Long files are decoded well in parts of that; infinite
      where a part costs as much as the whole.
    broken: Path and reason of the folder's files, of any split, that cannot
      be read.
  """

  kind: ClassVar[FileKind]
  stretch_seconds: ClassVar[float] = math.inf

  def __init__(self, folder: str, split: str, sample_rate: int):
    """Scans the folder; what is not read of it is counted and reported once.

    Args:
      folder: Searched recursively.
      split: `'train'`, `'validation'` or `'test'` (80, 10, 10 %), or `'all'`,
        for which one file suffices.
      sample_rate: Of what `read` returns, in Hz.

    Raises:
      UsageError: If the folder has no readable files of the kind, or fewer
        than splits.
    """
    self.sample_rate = sample_rate
    self._folder = Path(folder)
    found = scan(folder, self.kind)
    files = dict(sorted(found.files, key=lambda f: self.kind.order(f[0])))
    self.broken = found.broken
    self._all_names = tuple(files)
    self._names = list(files)
    if split != 'all':
      splits = _splits(self._all_names, self.kind)
      self._names = [name for name in files if splits[name] == split]
    self._files = [files[name] for name in self._names]
    self._reported: set[str] = set()

  def __len__(self) -> int:
    """Counts the files of the split."""
    return len(self._names)

  def piece_id(self, i: int) -> str:
    """Names a file by its path relative to the folder."""
    return self._names[i]

  def num_samples(self, i: int) -> int:
    """Tells the length at `sample_rate`, rounded down."""
    return self._files[i].num_samples(self.sample_rate)

  def path(self, i: int) -> Path:
    """Tells where the file is."""
    return self._folder / self._names[i]

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists what somebody has written on the file."""
    del i
    return ()

  def describe(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> tuple[str | None, None]:
    """Draws one of the file's captions, whatever the crop.

    Raises:
      UsageError: As `written_captions`.
    """
    del start_seconds, end_seconds
    return captions_file.draw(self.written_captions(i), rng)

  def captioned(self) -> list[int]:
    """Lists the files of the split that have a caption.

    Raises:
      UsageError: As `written_captions`.
    """
    return [i for i in range(len(self)) if self.written_captions(i)]

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable] | None:
    """Knows nothing about what is audible in a crop."""
    del i, start_seconds, end_seconds

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads [start, start + num_samples) of a file, float32, zero-padded.

    What cannot be decoded is silence, reported once a file.
    """
    if num_samples is None:
      num_samples = max(self.num_samples(i) - start, 0)
    waveform, reason = self.decode(i, start, num_samples)
    name = self._names[i]
    if reason and name not in self._reported:
      self._reported.add(name)
      _report(f'{name}: {reason}; silence is used in its place')
    return waveform

  def decode(
    self, i: int, start: int, num_samples: int
  ) -> tuple[np.ndarray, str | None]:
    """Reads as `read`, and says why not all of it could be; None if it was."""
    raise NotImplementedError

  def _parse(
    self,
    i: int,
    parser: Callable[..., tuple[np.ndarray, str | None]],
    *arguments: Any,
    num_samples: int,
    seconds: float,
    doing: str,
  ) -> tuple[np.ndarray, str | None]:
    """Calls `parser(path, *arguments)` in a process that may crash.

    Args:
      i: The file.
      parser: Returns a waveform, and a reason if it is not what it should be.
      *arguments: Of the parser.
      num_samples: Of the silence that stands for what it does not return.
      seconds: Of CPU time that it may take.
      doing: What is done to the file, for the reason.

    Returns:
      The waveform and the reason.
    """
    path = os.path.abspath(self.path(i))
    try:
      waveform, reason = parser_process.call(
        parser, path, *arguments, seconds=seconds
      )
    except parser_process.ParserError as error:
      waveform, reason = np.zeros(num_samples, np.float32), str(error)
    return waveform, reason and f'cannot be {doing} ({reason})'


def scan(folder: str | os.PathLike, kind: FileKind) -> Scan:
  """Finds the readable files of a folder.

  What is skipped or unusual is counted and reported on stderr, once a process.

  Raises:
    UsageError: If there is no readable file of the kind, with the cause.
  """
  listing = list_files(folder, kind.suffixes, kind.unread)
  if not listing.files:
    raise UsageError(
      f"folder '{printable(folder)}' holds no {kind.name}: "
      f'{why_none(listing, _unread(listing, kind))}; put '
      f'{", ".join(kind.suffixes)} files into it'
    )
  return _scan(Path(folder).resolve(), kind, listing)


@functools.lru_cache(maxsize=4)
def _scan(folder: Path, kind: FileKind, listing: Listing) -> Scan:
  """Probes the listed files; cached as each split asks for the same scan."""
  good, broken = probe_all(folder, kind, listing)
  broken = sorted([*broken, *listing.unusable])
  count = len(good) + len(broken)
  if not good:
    raise UsageError(
      f"folder '{printable(folder)}' holds no readable {kind.name}: all "
      f'{count} files are broken: {some(broken)}'
    )
  odd = [(name, found.remark) for name, found in good if found.remark]
  if broken:
    _report(f'{folder}: skipped {len(broken)} of {count} files: {some(broken)}')
  if odd:
    _report(
      f'{folder}: {len(odd)} of {count} files are read, but unusual: '
      + some(odd)
    )
  if unread := _unread(listing, kind):
    _report(f'{folder}: {unread}')
  if listing.closed:
    _report(f'{folder}: folders cannot be entered: {some(listing.closed)}')
  broken += [(name, _OTHER_KIND) for name in listing.unread]
  return Scan(good, (*broken, *listing.closed))


def probe_all(
  folder: Path, kind: FileKind, listing: Listing
) -> tuple[tuple[tuple[str, ReadableFile], ...], list[tuple[str, str]]]:
  """Probes files in processes that may crash.

  Returns:
    (name, what is known) of the readable ones; (name, reason) of the others.
  """
  names = [name for name, _, _ in listing.files]
  probed = parser_process.call_all(
    kind.probe,
    [(str(folder / name),) for name in names],
    [parser_process.cpu_seconds(size) for _, size, _ in listing.files],
  )
  good, broken = [], []
  for name, found in zip(names, probed, strict=True):
    if isinstance(found, str | parser_process.ParserError):
      broken.append((name, str(found)))
    else:
      good.append((name, found))
  return tuple(good), broken


def _unread(listing: Listing, kind: FileKind) -> str:
  """Counts the files of related kinds that cannot be read."""
  kinds = [pair for pair in listing.others if pair[0] in kind.unread]
  if not kinds:
    return ''
  shown = ', '.join(f'{suffix} {number}' for suffix, number in kinds)
  return f'kinds of files that are not read: {shown}; convert them to flac'


def _report(line: str) -> None:
  print(printable(line), file=sys.stderr, flush=True)


def _splits(names: Sequence[str], kind: FileKind) -> dict[str, str]:
  """Assigns a split to each file by the hash of its path.

  A split that the hash leaves empty takes the file nearest to its share of
  the unit interval from the fullest split.
  """
  if len(names) < MIN_FILES:
    raise UsageError(
      f'{len(names)} readable {kind.name} file(s) cannot be divided into '
      f'train, validation and test: add at least {MIN_FILES}, or cut a long '
      'file into several'
    )
  places = {name: _place(name, kind) for name in names}
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


def _place(name: str, kind: FileKind) -> float:
  """Hashes a path to [0, 1), the same on every machine."""
  digest = kind.digest(name_to_bytes(name))
  return int.from_bytes(digest, 'big') / 2 ** (8 * len(digest))
