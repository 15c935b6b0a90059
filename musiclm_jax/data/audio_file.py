"""One sound file that a user names -> mono waveform [S] at a rate.

This is the only reader of sound files. `probe` and `read_stretch` give files
to parsers that may crash: they are called through `parser_process`.
"""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import soundfile

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data import parser_process, sound_parts

MIN_SECONDS = 0.1
# Suffix -> format of libsndfile; which of them there are depends on its build.
_FORMATS = {
  '.wav': 'WAV',
  '.wave': 'WAV',
  '.bwf': 'WAV',
  '.rf64': 'RF64',
  '.w64': 'W64',
  '.flac': 'FLAC',
  '.mp3': 'MP3',
  '.mp2': 'MP3',
  '.ogg': 'OGG',
  '.oga': 'OGG',
  '.opus': 'OGG',
  '.aif': 'AIFF',
  '.aiff': 'AIFF',
  '.aifc': 'AIFF',
  '.au': 'AU',
  '.snd': 'AU',
  '.caf': 'CAF',
  '.voc': 'VOC',
  '.sph': 'NIST',
}
SUFFIXES = tuple(
  suffix
  for suffix, name in _FORMATS.items()
  if name in soundfile.available_formats()
)
_MARGIN_SECONDS = 0.1  # of context for the resampler on each side of a read
_LOST_FRAMES = 4096  # at most, around a place that cannot be decoded
_HEADROOM = 4.0  # louder samples are cut before sums and filters see them
_PROBES, _PROBED_FRAMES = 5, 4096
_MOSTLY = 0.5
_CANCELLED = 0.1  # of the power that the mix of unrelated channels has
_AUDIBLE = 1e-8  # power, -80 dBFS
_TOLERATED_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Sound:
  """What probing has found out about a readable file.

  Attributes:
    parts: To be read one after the other.
    channel: Which one is read; None takes the mean of all.
    size: In bytes.
    remark: What is unusual about the file, for the user; else empty.
  """

  parts: tuple[sound_parts.SoundPart, ...]
  channel: int | None = None
  size: int = 0
  remark: str = ''

  def num_samples(self, sample_rate: int) -> int:
    """Tells the length at a rate, each part rounded down."""
    return sum(_length(part, sample_rate) for part in self.parts)


def probe(path: str) -> Sound | str:
  """Opens a file, finds its length and listens in; a reason if that fails."""
  try:
    size = os.path.getsize(path)
    if size == 0:
      return '0 bytes'
    parts, promised, gaps = sound_parts.find_parts(path)
    seconds = sum(part.frames / part.sample_rate for part in parts)
    if seconds < MIN_SECONDS:
      if promised and promised > MIN_SECONDS:
        return f'{seconds:.2f} s of {promised:.2f} s can be decoded'
      return f'shorter than {MIN_SECONDS} s'
    longest = max(parts, key=lambda part: part.frames)
    samples = _glimpses(path, longest)
  except sound_parts.ERRORS as error:
    return f'unreadable: {_cause(error)}'
  if not len(samples):
    return 'ends before its header says'
  if reason := _unsound(samples):
    return reason
  remarks = []
  if gaps:
    remarks.append(f'damaged in {gaps} place' + 's' * (gaps > 1))
  off = 0.0 if promised is None else abs(promised - seconds)
  if off > _TOLERATED_SECONDS or (gaps and off > 0):
    remarks.append(f'{seconds:.2f} s, its header says {promised:.2f}')
  channel = _channel(samples)
  if channel is not None:
    remarks.append(
      f'its channels cancel each other: channel {channel + 1} is taken'
    )
  return Sound(parts, channel, size, '; '.join(remarks))


def read_stretch(
  path: str, sound: Sound, start: int, num_samples: int, sample_rate: int
) -> tuple[np.ndarray, str | None]:
  """Reads [start, start + num_samples) without decoding all that is before.

  A stretch is cut so that input and output samples coincide at its start:
  stretches of a file are, up to the resampler's rounding, parts of the whole.

  Args:
    path: Of the file.
    sound: What `probe` has found.
    start: First sample.
    num_samples: How many.
    sample_rate: Of samples and result, in Hz.

  Returns:
    float32 [num_samples] in [-1, 1], zeros past the end and where the file
    cannot be decoded; and the reason, if so.
  """
  out = np.zeros(num_samples, np.float32)
  begin, reason = 0, None
  for part in sound.parts:
    end = begin + _length(part, sample_rate)
    first, last = max(start, begin), min(start + num_samples, end)
    if first < last:
      samples, failure = _read_part(
        path, part, sound.channel, first - begin, last - first, sample_rate
      )
      out[first - start :][: len(samples)] = samples
      reason = reason or failure
    begin = end
  return np.clip(out, -1.0, 1.0, out=out), reason


def read(path: str | os.PathLike, sample_rate: int) -> np.ndarray:
  """Reads a whole file.

  Args:
    path: Of the file.
    sample_rate: Of the result, in Hz.

  Returns:
    float32 [S] in [-1, 1].

  Raises:
    UsageError: If there is no such file, or it is no sound.
  """
  path = Path(path)
  if not path.is_file():
    raise UsageError(f"there is no file '{printable(path)}'")
  absolute, size = os.path.abspath(path), path.stat().st_size
  seconds = parser_process.cpu_seconds(size)
  try:
    sound = parser_process.call(probe, absolute, seconds=seconds)
    if isinstance(sound, Sound):
      count = sound.num_samples(sample_rate)
      waveform, reason = parser_process.call(
        read_stretch, absolute, sound, 0, count, sample_rate, seconds=seconds
      )
    else:
      reason = sound
  except parser_process.ParserError as error:
    reason = str(error)
  if reason:
    raise UsageError(
      f"'{printable(path)}' cannot be read as sound ({printable(reason)}): "
      'give a wav, flac, mp3 or ogg file'
    )
  return waveform


def _length(part: sound_parts.SoundPart, sample_rate: int) -> int:
  return part.frames * sample_rate // part.sample_rate


def _read_part(
  path: str,
  part: sound_parts.SoundPart,
  channel: int | None,
  start: int,
  num_samples: int,
  sample_rate: int,
) -> tuple[np.ndarray, str | None]:
  """Reads float32 [<= num_samples] of a part, resampled; and why not all."""
  common = math.gcd(part.sample_rate, sample_rate)
  step_in, step_out = part.sample_rate // common, sample_rate // common
  margin = round(_MARGIN_SECONDS * sample_rate)
  steps = max(start - margin, 0) // step_out
  skipped = start - steps * step_out
  wanted = -(-(skipped + num_samples + margin) * step_in // step_out)
  mono, reason = _decode(path, part, channel, steps * step_in, wanted)
  if part.sample_rate != sample_rate and len(mono):
    import soxr

    mono = soxr.resample(mono, part.sample_rate, sample_rate)
  return mono[skipped : skipped + num_samples], reason


def _decode(
  path: str,
  part: sound_parts.SoundPart,
  channel: int | None,
  start: int,
  frames: int,
) -> tuple[np.ndarray, str | None]:
  """Decodes float32 [<= frames]; silence around what cannot be decoded."""
  frames = max(min(frames, part.frames - start), 0)
  try:
    return _mono(sound_parts.decode(path, part, start, frames), channel), None
  except (*sound_parts.ERRORS, IndexError) as error:
    if frames <= _LOST_FRAMES:
      return np.zeros(frames, np.float32), _cause(error)
  half = frames // 2
  first, reason = _decode(path, part, channel, start, half)
  rest, also = _decode(path, part, channel, start + half, frames - half)
  first = np.pad(first, (0, half - len(first)))
  return np.concatenate([first, rest]), reason or also


def _mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
  """Mixes float32 [n, channels] to [n], finite and of bounded size."""
  if not np.abs(samples).max(initial=0.0) <= _HEADROOM:
    samples = np.nan_to_num(samples, nan=0.0).clip(-_HEADROOM, _HEADROOM)
  if channel is None or channel >= samples.shape[1]:
    return samples.mean(axis=1)
  return np.ascontiguousarray(samples[:, channel])


def _glimpses(path: str, part: sound_parts.SoundPart) -> np.ndarray:
  """Decodes some places of a part, float32 [n, channels].

  Raises:
    SoundFileError, OSError: If none of them can be decoded.
  """
  count = max(min(_PROBES, part.frames // _PROBED_FRAMES), 1)
  last = max(part.frames - _PROBED_FRAMES, 0)
  decoded = []
  for start in np.linspace(0, last, count).astype(int):
    try:
      samples = sound_parts.decode(path, part, int(start), _PROBED_FRAMES)
      decoded.append(samples)
    except sound_parts.ERRORS as error:
      failure = error
  if not decoded:
    raise failure
  return np.concatenate(decoded)


def _unsound(samples: np.ndarray) -> str | None:
  """Says why samples are no sound: no numbers, or in another scale."""
  finite = np.isfinite(samples)
  if finite.mean() < _MOSTLY:
    return 'holds samples that are not numbers'
  sizes = np.abs(samples[finite])
  sizes = sizes[sizes > 0]
  if len(sizes) and (sizes > 1).mean() > _MOSTLY:
    return (
      f'its samples are not in [-1, 1] but up to {sizes.max():.3g}: scale them'
    )
  return None


def _channel(samples: np.ndarray) -> int | None:
  """The loudest channel, where the mean of all is far quieter than they."""
  if samples.shape[1] == 1:
    return None
  samples = np.nan_to_num(samples, nan=0.0).clip(-_HEADROOM, _HEADROOM)
  powers = np.square(samples, dtype=np.float64).mean(axis=0)
  unrelated = powers.mean() / len(powers)
  mix = np.square(samples.mean(axis=1, dtype=np.float64)).mean()
  if powers.max() > _AUDIBLE and mix < _CANCELLED * unrelated:
    return int(powers.argmax())
  return None


def _cause(error: Exception) -> str:
  """The last part of an error's first line, without the file's name."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  lines = str(error).splitlines() or [type(error).__name__]
  cause = lines[0].rsplit(': ', 1)[-1]
  return 'it holds no sound' if 'does not exist' in cause else cause
