"""The bytes of sound files whose headers lie: views, marks, better headers.

No decoding: WAV sizes that are too small, FLAC of unknown length, recordings
that were put one after the other.
"""

import contextlib
import io
import mmap
import os
from collections.abc import Iterator

# How recordings begin, by libsndfile's name of the format.
MARKS = {'FLAC': b'fLaC\x00\x00\x00\x22', 'OGG': b'OggS\x00\x02'}
FLAC_HEADER = 26  # bytes up to the number of samples, that included
_UNKNOWN = b'\xff\xff\xff\xff'


class View(io.RawIOBase):
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
def mapped(path: str) -> Iterator[mmap.mmap]:
  """Maps a file that is not empty into memory, to be read."""
  with (
    open(path, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    yield data


def find_marks(path: str, mark: bytes, begin: int, end: int) -> list[int]:
  """Places where a recording begins; pages of one beginning count as one."""
  places, after = [], -1
  with mapped(path) as data:
    place = data.find(mark, begin, end)
    while place >= 0:
      if place != after:
        places.append(place)
      if mark == MARKS['OGG']:
        lacing = data[place + 27 : place + 27 + data[place + 26]]
        after = place + 27 + len(lacing) + sum(lacing)
      place = data.find(mark, place + 1, end)
  return places


def wav_data(path: str) -> tuple[int, int, bool] | None:
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


def endless_wav(path: str, begin: int) -> bytes:
  """A WAV file's header up to its samples, which then reach to its end."""
  with open(path, 'rb') as file:
    head = bytearray(file.read(begin))
  head[4:8] = head[-4:] = _UNKNOWN
  return bytes(head)


def with_flac_length(head: bytes, frames: int) -> bytes:
  """A FLAC header with a number of samples in it; 0 says unknown."""
  samples = head[21] & 0xF0 | frames >> 32
  return head[:21] + bytes([samples]) + (frames % 2**32).to_bytes(4, 'big')
