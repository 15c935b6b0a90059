"""A sound file as parts that libsndfile reads whole: path -> parts -> samples.

libsndfile believes headers. Where they lie (unknown lengths, recordings that
were put one after the other), a part tells which bytes it is given instead: a
better header, a stretch of the file, or frames of MP3.
All of this may crash on malicious bytes: see `parser_process`.
"""

import contextlib
import dataclasses
import io
import itertools
import mmap
import os
from collections.abc import Iterator

import numpy as np
import soundfile

from musiclm_jax.data import mpeg_frames

_TAIL_FRAMES = 4096
_BLOCK_FRAMES = 4096  # what an error at the end may cost
_READ_AHEAD = 1 << 17  # bytes that a decoder may have read beyond its place
_STREAMED = 0xFFFF0000  # bytes; sizes above say that nobody knew
_ENDLESS = 1 << 40  # frames; what FLAC of unknown length is said to have
# How recordings begin, by libsndfile's name of the format.
_MARKS = {'FLAC': b'fLaC\x00\x00\x00\x22', 'OGG': b'OggS\x00\x02'}
_FLAC_HEADER = 26  # bytes up to the number of samples, that included
_UNKNOWN = b'\xff\xff\xff\xff'
ERRORS = (soundfile.SoundFileError, OSError)


@dataclasses.dataclass(frozen=True)
class SoundPart:
  """A stretch of a file that is decoded by itself.

  Attributes:
    frames: Its length at its own rate.
    sample_rate: In Hz.
    run: Its frames, if it is MP3.
    prefix: What is read in place of the bytes before `start`.
    start: First byte.
    end: After the last byte; None at the file's end.
  """

  frames: int
  sample_rate: int
  run: mpeg_frames.Run | None = None
  prefix: bytes = b''
  start: int = 0
  end: int | None = None


def find_parts(path: str) -> tuple[tuple[SoundPart, ...], float | None, int]:
  """Finds out how a file is to be read.

  Returns:
    Parts in the order of time, the seconds that the file's header promises or
    None, and the number of gaps in it.

  Raises:
    SoundFileError, OSError: If it cannot be read.
  """
  whole = SoundPart(0, 0)
  if _is_mpeg(path) and (runs := _find_runs(path)):
    return _mpeg_parts(runs)
  found = _look(path, whole)
  parts, lost = _parts(path, whole, found)
  return parts, _promised_seconds(path, found), lost


def decode(path: str, part: SoundPart, start: int, frames: int) -> np.ndarray:
  """Decodes [start, start + frames) of a part.

  Returns:
    float32 [<= frames, channels]: fewer where the part ends.

  Raises:
    SoundFileError, OSError: If it cannot be decoded.
  """
  frames = min(frames, part.frames - start)
  if frames <= 0:
    return np.zeros((0, 1), np.float32)
  if part.run is not None:
    return _decode_run(path, part.run, start, frames)
  with _opened(path, part) as stream:
    if stream.can_seek:
      stream.seek(start)
    else:
      for begin in range(0, start, _BLOCK_FRAMES):
        stream.read(min(_BLOCK_FRAMES, start - begin), 'float32')
    return stream.read(frames, 'float32', always_2d=True)


class _Decoder(soundfile.SoundFile):
  """Reads on without soundfile's seeks after each read.

  They are of no use here, and they make decoders of MP3 lose data.
  """

  def seekable(self) -> bool:
    return False

  @property
  def can_seek(self) -> bool:
    return super().seekable()


@dataclasses.dataclass(frozen=True)
class _Found:
  """What libsndfile says of a part, and what its end shows.

  Attributes:
    promised: Frames, by the header.
    frames: Frames that are there; None where they must be counted.
    position: Byte up to which all frames reach, at most.
  """

  format: str
  sample_rate: int
  promised: int
  frames: int | None
  position: int


def _is_mpeg(path: str) -> bool:
  try:
    with _opened(path, SoundPart(0, 0)) as stream:
      return stream.format == 'MP3'
  except soundfile.SoundFileError:
    return path.lower().endswith('.mp3')


def _look(path: str, part: SoundPart) -> _Found:
  """Opens a part and decodes its end."""
  with _opened(path, part) as stream:
    promised = stream.frames
    frames = None
    first = max(promised - _TAIL_FRAMES, 0)
    with contextlib.suppress(soundfile.SoundFileError):
      if stream.can_seek and promised:
        stream.seek(first)
        there = len(stream.read(_TAIL_FRAMES, 'float32'))
        frames = first + there if there else None
    position = stream.view.tell() + part.start - len(part.prefix)
    return _Found(stream.format, stream.samplerate, promised, frames, position)


def _parts(
  path: str, part: SoundPart, found: _Found
) -> tuple[tuple[SoundPart, ...], int]:
  """Mends what a header says of a part, and finds what follows it.

  Returns:
    Parts, and the number of those that cannot be opened.
  """
  data = _wav_data(path) if found.format == 'WAV' else None
  if data and not data[2]:
    head = _endless_wav(path, data[0])
    part = dataclasses.replace(part, prefix=head, start=len(head))
    found = _look(path, part)
  end = os.path.getsize(path) if part.end is None else part.end
  following = []
  if mark := _MARKS.get(found.format):
    seen = 0 if found.frames is None else found.position - _READ_AHEAD
    begin = max(seen, part.start + 1)
    following = _find_marks(path, mark, begin, end)
  if following:
    part = dataclasses.replace(part, end=following[0])
    found = _look(path, part)
  elif found.format == 'FLAC' and end > found.position + _READ_AHEAD:
    found = dataclasses.replace(found, frames=None)  # longer than promised
  part = _counted(path, part, found)
  parts = [part] if part.frames else []
  for first, last in itertools.pairwise([*following, end]):
    other = SoundPart(0, 0, start=first, end=last)
    with contextlib.suppress(soundfile.SoundFileError):
      parts.append(_counted(path, other, _look(path, other)))
  return tuple(parts), 1 + len(following) - len(parts)


def _promised_seconds(path: str, found: _Found) -> float | None:
  """The length by the header, None where it leaves that open."""
  if not 0 < found.promised <= _ENDLESS:
    return None
  frames = found.promised
  data = _wav_data(path) if found.format == 'WAV' else None
  if data and data[1] < _STREAMED:
    # libsndfile has cut the promise to what is there.
    frames *= max(data[1] / max(os.path.getsize(path) - data[0], 1), 1.0)
  return frames / found.sample_rate


def _counted(path: str, part: SoundPart, found: _Found) -> SoundPart:
  """Sets the length of a part, if need be by decoding all of it."""
  rate = found.sample_rate
  if found.frames is not None:
    return dataclasses.replace(part, frames=found.frames, sample_rate=rate)
  if found.format == 'FLAC':
    part = _with_flac_length(path, part, 0)
  frames = 0
  with (
    contextlib.suppress(soundfile.SoundFileError),
    _opened(path, part) as stream,
  ):
    while read := len(stream.read(_BLOCK_FRAMES, 'float32')):
      frames += read
  if found.format == 'FLAC':
    part = _with_flac_length(path, part, frames)
  return dataclasses.replace(part, frames=frames, sample_rate=rate)


def _find_runs(path: str) -> tuple[mpeg_frames.Run, ...]:
  with _mapped(path) as data:
    return mpeg_frames.find_runs(data)


def _mpeg_parts(
  runs: tuple[mpeg_frames.Run, ...],
) -> tuple[tuple[SoundPart, ...], float | None, int]:
  parts = tuple(
    SoundPart(run.num_samples, run.sample_rate, run) for run in runs
  )
  claimed = runs[0].claimed
  if claimed is not None:
    claimed /= runs[0].sample_rate
  return parts, claimed, sum(run.gaps for run in runs)


def _decode_run(
  path: str, run: mpeg_frames.Run, start: int, frames: int
) -> np.ndarray:
  begin, end = run.locate(start, frames)
  with open(path, 'rb') as file:
    file.seek(begin)
    data = file.read(end - begin)
  data, offset = run.excerpt(data, start, frames)
  with _Decoder(io.BytesIO(data)) as stream:
    return stream.read(offset + frames, 'float32', always_2d=True)[offset:]


@contextlib.contextmanager
def _opened(path: str, part: SoundPart) -> Iterator[_Decoder]:
  """Opens a part; `view.tell()` is how far its bytes have been read."""
  with open(path, 'rb', buffering=0) as file:
    whole = not part.prefix and not part.start and part.end is None
    view = file if whole else _View(file, part.prefix, part.start, part.end)
    source = file.fileno() if whole else view
    with _Decoder(source, closefd=False) as stream:
      stream.view = view
      yield stream


def _with_flac_length(path: str, part: SoundPart, frames: int) -> SoundPart:
  """The same part with a number of samples in its header; 0 says unknown."""
  head, start = part.prefix, part.start
  if not head:
    with open(path, 'rb') as file:
      file.seek(start)
      head, start = file.read(_FLAC_HEADER), start + _FLAC_HEADER
  if not head.startswith(_MARKS['FLAC']) or len(head) < _FLAC_HEADER:
    return part
  samples = head[21] & 0xF0 | frames >> 32
  head = head[:21] + bytes([samples]) + (frames % 2**32).to_bytes(4, 'big')
  return dataclasses.replace(part, prefix=head, start=start)


class _View(io.RawIOBase):
  """Some bytes, then a stretch of a file, as one file."""

  def __init__(
    self, file: io.RawIOBase, prefix: bytes, start: int, end: int | None
  ):
    """Joins `prefix` and the bytes [start, end) of a file."""
    super().__init__()
    self._file, self._prefix = file, prefix
    self._start = start - len(prefix)
    end = os.fstat(file.fileno()).st_size if end is None else end
    self._size, self._place = max(end - self._start, 0), 0

  def tell(self) -> int:
    return self._place

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    origin = (0, self._place, self._size)[whence]
    self._place = min(max(origin + offset, 0), self._size)
    return self._place

  def readinto(self, buffer) -> int:
    count = min(len(buffer), self._size - self._place)
    data = self._prefix[self._place : self._place + count]
    if len(data) < count:
      self._file.seek(self._start + self._place + len(data))
      data += self._file.read(count - len(data))
    buffer[: len(data)] = data
    self._place += len(data)
    return len(data)


@contextlib.contextmanager
def _mapped(path: str) -> Iterator[mmap.mmap]:
  """Maps a file that is not empty into memory, to be read."""
  with (
    open(path, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    yield data


def _find_marks(path: str, mark: bytes, begin: int, end: int) -> list[int]:
  """Places where a recording begins; pages of one beginning count as one."""
  places, after = [], -1
  with _mapped(path) as data:
    place = data.find(mark, begin, end)
    while place >= 0:
      if place != after:
        places.append(place)
      if mark == _MARKS['OGG']:
        lacing = data[place + 27 : place + 27 + data[place + 26]]
        after = place + 27 + len(lacing) + sum(lacing)
      place = data.find(mark, place + 1, end)
  return places


def _wav_data(path: str) -> tuple[int, int, bool] | None:
  """Finds the samples of a WAV file.

  Returns:
    First byte, number of bytes by the header, and whether a chunk follows or
    the file ends there; None if there are none, or it is no RIFF file.
  """
  with open(path, 'rb') as file:
    if file.read(4) != b'RIFF':
      return None
    place, size = 12, os.path.getsize(path)
    while place + 8 < size:
      file.seek(place)
      chunk, length = file.read(4), int.from_bytes(file.read(4), 'little')
      following = place + 8 + length + length % 2
      if chunk == b'data':
        file.seek(following)
        name, after = file.read(4), int.from_bytes(file.read(4), 'little')
        fits = not name or following + 8 + after <= size
        fits &= name.isascii() and name.decode().isprintable()
        return place + 8, length, fits or (length > 0 and following >= size)
      place = following
  return None


def _endless_wav(path: str, begin: int) -> bytes:
  """A WAV file's header up to its samples, which then reach to its end."""
  with open(path, 'rb') as file:
    head = bytearray(file.read(begin))
  head[4:8] = head[-4:] = _UNKNOWN
  return bytes(head)
