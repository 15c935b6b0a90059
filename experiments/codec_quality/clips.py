"""The clips that all codecs code: five seconds from the middle of a piece."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.data.sources import Source, open_source

SAMPLE_RATE = 24_000
_SAMPLES = 5 * SAMPLE_RATE
_PIECES = 64  # rendered
_SHORTEST = SAMPLE_RATE // 2


@dataclasses.dataclass(frozen=True)
class Clips:
  """N clips of different pieces.

  Attributes:
    names: Of the pieces.
    classes: Of each piece: who made it, or None where all come from one hand.
    waveforms: float32 [N, S], zeros past a clip's end.
    lengths: Samples of each [N].
  """

  names: Sequence[str]
  classes: Sequence[str] | None
  waveforms: np.ndarray
  lengths: Sequence[int]

  def cut(self, waveforms: np.ndarray) -> list[np.ndarray]:
    """Cuts each of [N, S] to its clip's length."""
    return [w[:n] for w, n in zip(waveforms, self.lengths, strict=True)]


def rendered(corpus: str) -> Clips:
  """Of the first pieces of the corpus' test split."""
  source = open_source(f'prepared:{corpus}', 'test')
  return _middles(source, min(len(source), _PIECES))


def real(folder: str) -> Clips:
  """Of each recording of a folder; a class is a folder of the first level."""
  source = AudioFolder(folder, 'all')
  clips = _middles(source, len(source))
  sources = [name.split('/')[0] for name in clips.names]
  return dataclasses.replace(clips, classes=sources)


def _middles(source: Source, pieces: int) -> Clips:
  names, waveforms, lengths = [], [], []
  for i in range(pieces):
    whole = source.num_samples(i)
    length = min(whole, _SAMPLES)
    if length < _SHORTEST:
      continue
    clip = np.zeros(_SAMPLES, np.float32)
    clip[:length] = source.read(i, (whole - length) // 2, length)
    if not clip.any():  # nothing to compare with
      continue
    names.append(source.piece_id(i))
    waveforms.append(clip)
    lengths.append(length)
  return Clips(names, None, np.stack(waveforms), lengths)
