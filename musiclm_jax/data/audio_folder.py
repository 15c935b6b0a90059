"""A folder of sound files as a source of music, resampled on reading.

wav, flac, mp3, ogg at any depth -> mono float32 [n] at the rate asked for.
Splits are drawn by a hash of the relative path, so a file stays in its split
when others are added. `captions.csv` (path,caption; several rows a file
allowed) beside the files is optional.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import math
import os
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import captions_file

SUFFIXES = ('.wav', '.flac', '.mp3', '.ogg')
MIN_SECONDS = 0.1
MIN_FILES = 3  # one a split
_BOUNDS = {'train': (0.0, 0.8), 'validation': (0.8, 0.9), 'test': (0.9, 1.0)}
_MARGIN_SECONDS = 0.1  # of context for the resampler on each side of a read
_PROBED_FRAMES = 4096
_SCAN_THREADS = 8
_NAMED_FILES = 5


@dataclasses.dataclass(frozen=True)
class SoundFile:
  """A readable file.

  Attributes:
    name: Path relative to the folder, with `/`.
    frames: Length at the file's own rate.
    sample_rate: Of the file, in Hz.
  """

  name: str
  frames: int
  sample_rate: int


class AudioFolder:
  """Reads one split of a folder of sound files; see `sources.Source`."""

  def __init__(self, folder: str, split: str, sample_rate: int = 24000):
    """Scans the folder; broken files are counted and reported once.

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
    self._names = tuple(file.name for file in good)
    if split != 'all':
      splits = _splits(good)
      good = tuple(file for file in good if splits[file.name] == split)
    self._files = good
    self._reported: set[str] = set()

  def __len__(self) -> int:
    """Counts the files of the split."""
    return len(self._files)

  def piece_id(self, i: int) -> str:
    """Names a file by its path relative to the folder."""
    return self._files[i].name

  def num_samples(self, i: int) -> int:
    """Tells the length at `sample_rate`, rounded down."""
    file = self._files[i]
    return file.frames * self.sample_rate // file.sample_rate

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads [start, start + num_samples) without decoding what is before.

    The part is cut so that input and output samples coincide at its start:
    parts of a file are, up to the resampler's rounding, parts of the whole.
    A stretch that cannot be decoded is silence, reported once a file.

    Returns:
      float32 [num_samples] in [-1, 1], zeros past the end.
    """
    file = self._files[i]
    if num_samples is None:
      num_samples = max(self.num_samples(i) - start, 0)
    common = math.gcd(file.sample_rate, self.sample_rate)
    step_in = file.sample_rate // common
    step_out = self.sample_rate // common
    margin = round(_MARGIN_SECONDS * self.sample_rate)
    steps = max(start - margin, 0) // step_out
    skipped = start - steps * step_out
    wanted = -(-(skipped + num_samples + margin) * step_in // step_out)
    part = self._decode(file, steps * step_in, wanted)
    if file.sample_rate != self.sample_rate and len(part):
      import soxr

      part = soxr.resample(part, file.sample_rate, self.sample_rate)
    part = part[skipped : skipped + num_samples]
    last = max(self.num_samples(i) - start, 0)
    out = np.zeros(num_samples, np.float32)
    out[: min(len(part), last)] = part[:last]
    return np.clip(out, -1.0, 1.0, out=out)

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
    return self._folder / self._files[i].name

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists the file's captions, in the order of captions.csv.

    Raises:
      UsageError: As `caption`.
    """
    return self._captions.get(self._files[i].name, ())

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable] | None:
    """Knows nothing about what is audible in a crop."""
    del i, start_seconds, end_seconds

  @functools.cached_property
  def _captions(self) -> Mapping[str, tuple[str, ...]]:
    """Captions by file; read when first asked for, as few stages need them."""
    return captions_file.of_folder(self._folder, self._names)

  def _decode(self, file: SoundFile, start: int, frames: int) -> np.ndarray:
    """Decodes mono float32 [<= frames] at the file's own rate."""
    import soundfile

    if start >= file.frames:
      return np.zeros(0, np.float32)
    try:
      with soundfile.SoundFile(self._folder / file.name) as stream:
        stream.seek(start)
        samples = stream.read(frames, dtype='float32', always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
      if file.name not in self._reported:
        self._reported.add(file.name)
        print(
          f'{file.name}: cannot be decoded at {start / file.sample_rate:.1f} '
          f's ({error}); silence is used in its place',
          file=sys.stderr,
        )
      return np.zeros(0, np.float32)
    mono = samples.mean(axis=1)
    return np.nan_to_num(mono, nan=0.0, posinf=1.0, neginf=-1.0)


def scan(folder: str | os.PathLike) -> tuple[SoundFile, ...]:
  """Finds the readable sound files of a folder, sorted by path.

  Broken ones are skipped, counted and reported in one line on stderr, once a
  process.

  Raises:
    UsageError: If there is no readable sound file.
  """
  folder = Path(folder)
  listing = []
  for path in folder.rglob('*'):
    if path.suffix.lower() in SUFFIXES and path.is_file():
      status = path.stat()
      name = path.relative_to(folder).as_posix()
      listing.append((name, status.st_size, status.st_mtime_ns))
  if not listing:
    raise UsageError(
      f"folder '{folder}' holds no audio: put {', '.join(SUFFIXES)} files "
      'into it'
    )
  return _scan(folder.resolve(), tuple(sorted(listing)))


@functools.lru_cache(maxsize=4)
def _scan(folder: Path, listing: tuple) -> tuple[SoundFile, ...]:
  """Probes the listed files; cached as each split asks for the same scan."""
  names = [name for name, _, _ in listing]
  with concurrent.futures.ThreadPoolExecutor(_SCAN_THREADS) as pool:
    probed = list(pool.map(lambda name: _probe(folder, name), names))
  good = tuple(file for file in probed if isinstance(file, SoundFile))
  broken = [
    f'{name} ({reason})'
    for name, reason in zip(names, probed, strict=True)
    if isinstance(reason, str)
  ]
  if broken:
    more = len(broken) - _NAMED_FILES
    print(
      f'{folder}: skipped {len(broken)} of {len(names)} files: '
      + ', '.join(broken[:_NAMED_FILES])
      + (f' and {more} more' if more > 0 else ''),
      file=sys.stderr,
    )
  if not good:
    raise UsageError(
      f"folder '{folder}' holds no readable audio: all {len(names)} files "
      f'are broken, the first is {broken[0]}'
    )
  return good


def _probe(folder: Path, name: str) -> SoundFile | str:
  """Opens a file and decodes its two ends; a reason if that fails."""
  import soundfile

  path = folder / name
  try:
    if path.stat().st_size == 0:
      return '0 bytes'
    with soundfile.SoundFile(path) as stream:
      frames, rate = stream.frames, stream.samplerate
      if frames < MIN_SECONDS * rate:
        return f'shorter than {MIN_SECONDS} s'
      head = stream.read(_PROBED_FRAMES, dtype='float32')
      stream.seek(max(frames - _PROBED_FRAMES, 0))
      tail = stream.read(dtype='float32')
    if not (np.isfinite(head).all() and np.isfinite(tail).all()):
      return 'holds samples that are not numbers'
    if len(head) == 0 or len(tail) == 0:
      return 'ends before its header says'
    return SoundFile(name, frames, rate)
  except (soundfile.SoundFileError, OSError) as error:
    return f'unreadable: {str(error).splitlines()[0].rsplit(": ", 1)[-1]}'


def _splits(files: tuple[SoundFile, ...]) -> dict[str, str]:
  """Assigns a split to each file by the hash of its path.

  A split that the hash leaves empty takes the file nearest to its share of
  the unit interval from the fullest split.
  """
  if len(files) < MIN_FILES:
    raise UsageError(
      f'{len(files)} readable sound file(s) cannot be divided into train, '
      f'validation and test: bring at least {MIN_FILES}, or cut a long file '
      'into several'
    )
  places = {file.name: _unit_hash(file.name) for file in files}
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
  digest = hashlib.blake2b(name.encode(), digest_size=6).digest()
  return int.from_bytes(digest, 'big') / 2**48
