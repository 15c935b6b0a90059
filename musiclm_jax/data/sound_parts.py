"""A sound file as parts that libsndfile reads whole: path -> parts -> samples.

libsndfile believes headers. Where they lie (unknown lengths, recordings that
were put one after the other), a part tells which bytes it is given instead.
All of this may crash on malicious bytes: see `parser_process`.
"""

import contextlib
import dataclasses
import io
import itertools
import os
from collections.abc import Iterator

import numpy as np
import soundfile

from musiclm_jax.data import mpeg_frames, sound_bytes

_TAIL_FRAMES = 4096
_BLOCK_FRAMES = 4096  # what an error at the end may cost
_READ_AHEAD = 1 << 17  # bytes that a decoder may have read beyond its place
_STREAMED = 0xFFFF0000  # bytes; sizes above say that nobody knew
_ENDLESS = 1 << 40  # frames; what FLAC of unknown length is said to have
ERRORS = (soundfile.SoundFileError, OSError)


@dataclasses.dataclass(frozen=True)
class Part:
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


def find_parts(path: str) -> tuple[tuple[Part, ...], float | None, int]:
  """Finds out how a file is to be read.

  Returns:
    Parts in the order of time, the seconds that the file's header promises or
    None, and the number of gaps in it.

  Raises:
    SoundFileError, OSError: If it cannot be read.
  """
  whole = Part(0, 0)
  if _is_mpeg(path) and (runs := _find_runs(path)):
    return _mpeg_parts(runs)
  found = _look(path, whole)
  parts, lost = _parts(path, whole, found)
  return parts, _promised_seconds(path, found), lost


def decode(path: str, part: Part, start: int, frames: int) -> np.ndarray:
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


class _Stream(soundfile.SoundFile):
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
    with _opened(path, Part(0, 0)) as stream:
      return stream.format == 'MP3'
  except soundfile.SoundFileError:
    return path.lower().endswith('.mp3')


def _look(path: str, part: Part) -> _Found:
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
  path: str, part: Part, found: _Found
) -> tuple[tuple[Part, ...], int]:
  """Mends what a header says of a part, and finds what follows it.

  Returns:
    Parts, and the number of those that cannot be opened.
  """
  data = sound_bytes.wav_data(path) if found.format == 'WAV' else None
  if data and not data[2]:
    head = sound_bytes.endless_wav(path, data[0])
    part = dataclasses.replace(part, prefix=head, start=len(head))
    found = _look(path, part)
  end = os.path.getsize(path) if part.end is None else part.end
  following = []
  if mark := sound_bytes.MARKS.get(found.format):
    seen = 0 if found.frames is None else found.position - _READ_AHEAD
    begin = max(seen, part.start + 1)
    following = sound_bytes.find_marks(path, mark, begin, end)
  if following:
    part = dataclasses.replace(part, end=following[0])
    found = _look(path, part)
  elif found.format == 'FLAC' and end > found.position + _READ_AHEAD:
    found = dataclasses.replace(found, frames=None)  # longer than promised
  part = _counted(path, part, found)
  parts = [part] if part.frames else []
  for first, last in itertools.pairwise([*following, end]):
    other = Part(0, 0, start=first, end=last)
    with contextlib.suppress(soundfile.SoundFileError):
      parts.append(_counted(path, other, _look(path, other)))
  return tuple(parts), 1 + len(following) - len(parts)


def _promised_seconds(path: str, found: _Found) -> float | None:
  """The length by the header, None where it leaves that open."""
  if not 0 < found.promised <= _ENDLESS:
    return None
  frames = found.promised
  data = sound_bytes.wav_data(path) if found.format == 'WAV' else None
  if data and data[1] < _STREAMED:
    # libsndfile has cut the promise to what is there.
    frames *= max(data[1] / max(os.path.getsize(path) - data[0], 1), 1.0)
  return frames / found.sample_rate


def _counted(path: str, part: Part, found: _Found) -> Part:
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
  with sound_bytes.mapped(path) as data:
    return mpeg_frames.find_runs(data)


def _mpeg_parts(
  runs: tuple[mpeg_frames.Run, ...],
) -> tuple[tuple[Part, ...], float | None, int]:
  parts = tuple(Part(run.num_samples, run.sample_rate, run) for run in runs)
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
  with _Stream(io.BytesIO(data)) as stream:
    return stream.read(offset + frames, 'float32', always_2d=True)[offset:]


@contextlib.contextmanager
def _opened(path: str, part: Part) -> Iterator[_Stream]:
  """Opens a part; `view.tell()` is how far its bytes have been read."""
  with open(path, 'rb', buffering=0) as file:
    whole = not part.prefix and not part.start and part.end is None
    view = (
      file
      if whole
      else sound_bytes.View(file, part.prefix, part.start, part.end)
    )
    source = file.fileno() if whole else view
    with _Stream(source, closefd=False) as stream:
      stream.view = view
      yield stream


def _with_flac_length(path: str, part: Part, frames: int) -> Part:
  """The same part with a number of samples in its header."""
  size = sound_bytes.FLAC_HEADER
  head, start = part.prefix, part.start
  if not head:
    with open(path, 'rb') as file:
      file.seek(start)
      head, start = file.read(size), start + size
  if not head.startswith(sound_bytes.MARKS['FLAC']) or len(head) < size:
    return part
  head = sound_bytes.with_flac_length(head, frames)
  return dataclasses.replace(part, prefix=head, start=start)
