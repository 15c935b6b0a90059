"""A folder of MIDI files as a source of music, rendered on reading.

*.mid at any depth -> mono float32 [n] at 24 kHz, by the synthesizer that
performs our own pieces.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.file_folder import FileFolder, FileKind
from musiclm_jax.rendered_music import synthesis

MIN_SECONDS, MAX_SECONDS = 1.0, 3600.0
TAIL_SECONDS = 1.0
_SPARE = 4096  # bytes after a file
PEAK = 0.9
_CACHED_PIECES = 4  # rendered audio kept by each source
_RENDER_CPU_SECONDS = 600.0  # many tracks of an hour take minutes


@dataclasses.dataclass(frozen=True)
class MidiFile:
  """A readable file.

  Attributes:
    seconds: To the end of the last note.
    remark: Empty.
  """

  seconds: float
  remark: str = ''

  def num_samples(self, sample_rate: int) -> int:
    """Tells the length at a rate, the last note's tail included."""
    return int((self.seconds + TAIL_SECONDS) * sample_rate)


def probe(path: str) -> MidiFile | str:
  """Parses a file; a reason if it is too short or too long."""
  seconds = float(_load(Path(path)).end())
  if MIN_SECONDS <= seconds <= MAX_SECONDS:
    return MidiFile(seconds)
  return f'lasts {seconds:.1f} s'


KIND = FileKind(
  'MIDI files',
  ('.mid', '.midi'),
  probe,
  digest=lambda name: hashlib.sha256(name).digest()[:8],
  order=lambda name: name.split('/'),
)


class MidiFolder(FileFolder):
  """Reads one split of a folder of MIDI files; see `sources.Source`."""

  kind = KIND

  def __init__(self, folder: str, split: str, sample_rate: int = SAMPLE_RATE):
    """Scans the folder; see `FileFolder`.

    Files that are corrupt, empty of notes, shorter than a second or longer
    than an hour are skipped.

    Raises:
      UsageError: As `FileFolder`, or if the rate is not 24,000, at which files
        are rendered.
    """
    if sample_rate != SAMPLE_RATE:
      raise UsageError(
        f'MIDI files are rendered at {SAMPLE_RATE} Hz, asked for {sample_rate}'
      )
    super().__init__(folder, split, sample_rate)
    self._rendered = functools.lru_cache(_CACHED_PIECES)(self._render)

  def decode(
    self, i: int, start: int, num_samples: int
  ) -> tuple[np.ndarray, str | None]:
    """Renders a file whole, which is kept while it is one of the last few.

    Returns:
      float32 [num_samples], zeros past the end, and silent where the file
      cannot be rendered; and the reason, if so.
    """
    sound, reason = self._rendered(i)
    part = sound[start : start + num_samples]
    return np.pad(part, (0, num_samples - len(part))), reason

  def _render(self, i: int) -> tuple[np.ndarray, str | None]:
    count = self.num_samples(i)
    return self._parse(
      i,
      _render_file,
      count,
      num_samples=count,
      seconds=_RENDER_CPU_SECONDS,
      doing='rendered',
    )

  def __getstate__(self) -> dict[str, Any]:
    """All but what is rendered."""
    return {k: v for k, v in self.__dict__.items() if k != '_rendered'}

  def __setstate__(self, state: dict[str, Any]) -> None:
    """Begins with nothing rendered."""
    self.__dict__ |= state
    self._rendered = functools.lru_cache(_CACHED_PIECES)(self._render)


def _render_file(path: str, num_samples: int) -> tuple[np.ndarray, None]:
  return _render(_load(Path(path)), num_samples), None


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
