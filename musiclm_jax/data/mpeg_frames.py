"""MP3 as runs of frames: exact lengths and places without decoding.

bytes -> runs of frames of one kind -> a short stream that is decoded alone

Headers of MP3 files lie about the length (none, joined files), and libsndfile
seeks by reading all that is before. So frames are counted here, and a part of
a file is decoded from a stream of its frames and some before them.

A frame begins with 4 bytes, by bits (ISO 11172-3 §2.4.1, 13818-3):

  11111111 111vvllp kkkkrrxx mm......   v version, l layer, p no checksum,
                                        k bit rate, r sample rate, x padding,
                                        m channels (3 is mono)

then its side information, then data. Its own data may begin up to 511 bytes
earlier, in the frames before it (the reservoir).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

_HEADER = 4
_XING = (b'Xing', b'Info')
_TRUSTED = 3  # frames in a row that are no accident
_FOREIGN = bytes(16)  # what no decoder takes for a frame
_DECODER_DELAY = 529  # samples that the decoder drops after an Xing header
_RESERVOIR = 511  # bytes of earlier frames that a frame's data may begin in
_OVERLAP = 2  # earlier frames that the filterbanks remember
_LOOK_BACK = 192  # frames, enough of the smallest for a reservoir
_STRIDE = 64  # frames from mark to mark
# kbit/s of layer III, MPEG-1 and -2; Hz by version bits (2.5, -, 2, 1).
_KBITS = (
  (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
  (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_HERTZ = {
  0: (11025, 12000, 8000),
  2: (22050, 24000, 16000),
  3: (44100, 48000, 32000),
}


@dataclasses.dataclass(frozen=True)
class Run:
  """Frames of one rate and number of channels.

  Attributes:
    marks: Bytes where every 64th frame begins, from the first on and without
      an Xing header, and where the last frame ends; int64 [M].
    header: The first frame's first 4 bytes.
    sample_rate: In Hz.
    skip: Samples of the decoded frames before the sound begins.
    num_samples: Of the sound.
    claimed: Samples that the Xing header promises, None without one.
    gaps: Places where bytes are missing or foreign.
  """

  marks: np.ndarray
  header: bytes
  sample_rate: int
  skip: int
  num_samples: int
  claimed: int | None
  gaps: int

  def locate(self, start: int, num_samples: int) -> tuple[int, int]:
    """Tells which bytes of the file `excerpt` needs: [begin, end)."""
    first, last = self._marks(start, num_samples)
    return int(self.marks[first]), int(self.marks[last])

  def excerpt(
    self, data: bytes, start: int, num_samples: int
  ) -> tuple[bytes, int]:
    """Makes a short file of what a part of the sound is decoded from.

    Args:
      data: The bytes of the file that `locate` names.
      start: First sample of the part.
      num_samples: How many.

    Returns:
      The file, and the sample at which the part begins in it.
    """
    per_frame = _samples(self.header)
    frames, cut, _ = _follow(data, 0, _kind(self.header, 0))
    number = self._marks(start, num_samples)[0] * _STRIDE
    place = self.skip + start - number * per_frame
    sizes = np.asarray([_size(data, i) for i in frames], np.int64)
    first = _warm_up(sizes, place // per_frame, self.header)
    last = -(-(place + num_samples) // per_frame) + 1
    rows = zip(frames[first:last], sizes[first:last], strict=True)
    lost = set(cut)
    pieces = [None if i in lost else data[i : i + size] for i, size in rows]
    # A mute frame comes first, and the decoder drops its own delay.
    offset = place - first * per_frame + per_frame - _DECODER_DELAY
    return _file(self.header, pieces), offset

  def _marks(self, start: int, num_samples: int) -> tuple[int, int]:
    """Numbers of the marks before and behind what a part needs."""
    per_frame = _samples(self.header)
    first = (self.skip + start) // per_frame - _LOOK_BACK
    last = -(-(self.skip + start + num_samples) // per_frame) + 1
    return (
      max(first // _STRIDE, 0),
      min(-(-last // _STRIDE), len(self.marks) - 1),
    )


def find_runs(data: bytes) -> tuple[Run, ...]:
  """Finds the frames of a file, or of what is mapped of it.

  Tags and junk between frames are passed over. Layers I and II, and frames of
  free bit rate, are not looked for.
  """
  runs, i = [], _next_frame(data, 0)
  while i is not None:
    frames, cut, following = _follow(data, i, _kind(data, i))
    runs.append(_run(data, frames, len(cut)))
    i = following
  return tuple(run for run in runs if run.num_samples)


def _follow(
  data: bytes, i: int, kind: int
) -> tuple[list[int], list[int], int | None]:
  """Finds the frames of a kind from a place on.

  Returns:
    Their places; those of them after which something is wrong, so that their
    own data are in doubt; and where the next run begins.
  """
  frames: list[int] = []
  cut = []
  while True:
    i = _walk(data, i, kind, frames)
    following = _next_frame(data, i)
    if following is None or _starts_anew(data, following, kind):
      return frames, cut, following
    if following != _after_tags(data, i):
      cut.append(frames[-1])
    i = following


def _warm_up(sizes: np.ndarray, frame: int, header: bytes) -> int:
  """The frame to begin with so that `frame` is decoded as in the whole."""
  frame = max(frame - _OVERLAP, 0)
  # Bytes of data in the frames before, summed backwards: as many as a
  # reservoir may reach into.
  data = np.cumsum(sizes[:frame][::-1] - _HEADER - 2 - _side_info(header))
  return max(frame - int(np.searchsorted(data, _RESERVOIR)) - 1, 0)


def _file(header: bytes, frames: Sequence[bytes | None]) -> bytes:
  """Joins an Xing header, a mute frame, and frames.

  In the place of None is silence, after which the decoder forgets what it has
  kept of earlier frames.
  """
  mute = _mute(header)
  tag = b'Xing' + (1).to_bytes(4, 'big') + (len(frames) + 1).to_bytes(4, 'big')
  place = _HEADER + _side_info(header)
  xing = mute[:place] + tag + mute[place + len(tag) :]
  return b''.join([xing, mute, *(f or mute + _FOREIGN for f in frames)])


@functools.cache
def _table() -> tuple[list[int], list[int]]:
  """Sizes and kinds of frames by a header's second and third byte.

  The size is 0 where these bytes are no header of layer III.
  """
  sizes, kinds = [0] * 65536, [0] * 65536
  for second in range(0xE0, 0x100):
    version, layer = second >> 3 & 3, second >> 1 & 3
    if version == 1 or layer != 1:  # 1 is reserved; layer III is 1, I is 3
      continue
    for third in range(256):
      rate, key = third >> 2 & 3, second << 8 | third
      if rate == 3 or third >> 4 in (0, 15):  # reserved; free, forbidden
        continue
      kbits = _KBITS[version != 3][third >> 4]
      # Bytes: samples a frame / 8 x bit rate / sample rate, and the padding.
      slots = 144000 if version == 3 else 72000
      size = slots * kbits // _HERTZ[version][rate] + (third >> 1 & 1)
      sizes[key], kinds[key] = size, 1 + version * 4 + rate
  return sizes, kinds


def _kind(data: bytes, i: int) -> int:
  """Version, rate and whether it is mono, as a number; 0 for no header."""
  if i + _HEADER > len(data) or data[i] != 0xFF:
    return 0
  kind = _table()[1][data[i + 1] << 8 | data[i + 2]]
  return kind and kind * 2 + (data[i + 3] >> 6 == 3)


def _size(data: bytes, i: int) -> int:
  return _table()[0][data[i + 1] << 8 | data[i + 2]]


def _walk(data: bytes, i: int, kind: int, frames: list[int]) -> int:
  """Adds the frames of a kind that follow one another; where they end."""
  # The loop over all frames, 138,000 in an hour: no calls in it.
  sizes, kinds = _table()
  length = len(data)
  tag = _HEADER + _side_info(data[i : i + _HEADER])
  mono, kind = kind & 1, kind >> 1
  while i + _HEADER <= length:
    sync, second, third, fourth = data[i : i + _HEADER]
    key = second << 8 | third
    if kinds[key] != kind or sync != 0xFF or (fourth >> 6 == 3) != mono:
      break
    if i + sizes[key] > length:
      break
    # Another file was joined on: its Xing header begins a run of its own.
    if frames and data[i + tag : i + tag + 4] in _XING and _xing(data, i):
      break
    frames.append(i)
    i += sizes[key]
  return i


def _next_frame(data: bytes, i: int) -> int | None:
  """Finds the next frame that two more like it follow, or the file's end."""
  while True:
    i = data.find(b'\xff', _after_tags(data, i))
    if i < 0 or i + _HEADER > len(data):
      return None
    kind, place = _kind(data, i), i
    for _ in range(_TRUSTED):
      if not kind or place == len(data) or _kind(data, place) != kind:
        break
      place += _size(data, place)
    else:
      return i
    if kind and place == len(data):
      return i
    i += 1


def _after_tags(data: bytes, i: int) -> int:
  """Passes over the tags that players write, ID3 of both kinds."""
  while True:
    head = data[i : i + 10]
    if head[:3] == b'ID3' and len(head) == 10:
      size = head[6:]  # 4 x 7 bits, so that no byte looks like a frame
      i += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    elif head[:3] == b'TAG':
      i += 128
    else:
      return i


def _starts_anew(data: bytes, i: int, kind: int) -> bool:
  return _kind(data, i) != kind or _xing(data, i) is not None


def _run(data: bytes, frames: list[int], gaps: int) -> Run:
  header = bytes(data[frames[0] : frames[0] + _HEADER])
  per_frame = _samples(header)
  xing = _xing(data, frames[0])
  frames = frames[xing is not None :]
  skip, spare, claimed = 0, 0, None
  if xing is not None:
    promised, delay, padding = xing
    skip, spare = delay + _DECODER_DELAY, max(padding - _DECODER_DELAY, 0)
    claimed = max(promised * per_frame - skip - spare, 0)
    if promised != len(frames):
      spare = 0  # the end that was padded is not there
  ends = [frames[-1] + _size(data, frames[-1])] if frames else []
  return Run(
    np.asarray(frames[::_STRIDE] + ends, np.int64),
    header,
    _HERTZ[header[1] >> 3 & 3][header[2] >> 2 & 3],
    skip,
    max(len(frames) * per_frame - skip - spare, 0),
    claimed,
    gaps,
  )


def _xing(data: bytes, i: int) -> tuple[int, int, int] | None:
  """Reads an Xing or Info header: frames, encoder's delay and padding."""
  tag = i + _HEADER + _side_info(data[i : i + _HEADER])
  end = i + _size(data, i)
  if data[tag : tag + 4] not in _XING or tag + 12 > end:
    return None
  # Tag, flags, then each of frames, bytes, 100 seek points and quality whose
  # flag is set; LAME's own tag follows, with 12 + 12 bits at byte 21.
  flags = data[tag + 7]
  if not flags & 1:
    return None
  lengths = (4, 4, 100, 4)
  lame = tag + 8 + sum(n for k, n in enumerate(lengths) if flags >> k & 1)
  gap = int.from_bytes(data[lame + 21 : lame + 24], 'big')
  if lame + 24 > end:
    gap = 0
  frames = int.from_bytes(data[tag + 8 : tag + 12], 'big')
  return frames, gap >> 12, gap & 0xFFF


def _side_info(header: bytes) -> int:
  mono = header[3] >> 6 == 3
  if header[1] >> 3 & 3 == 3:
    return 17 if mono else 32
  return 9 if mono else 17


def _samples(header: bytes) -> int:
  """Samples a frame."""
  return 1152 if header[1] >> 3 & 3 == 3 else 576


def _mute(header: bytes) -> bytes:
  """A frame like that of a header, of zeros: silence, as large as can be."""
  head = bytes([0xFF, header[1] | 1, header[2] & 0x0C | 0xE0, header[3]])
  return head.ljust(_size(head, 0), b'\0')
