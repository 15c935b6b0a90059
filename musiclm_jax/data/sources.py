"""Sources of music: pieces of audio, what is said of them, three splits.

A source is random access to pieces: `read` gives samples [n] of one piece,
`caption` and `attributes` describe what is audible between two times.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.folder_listing import check_folder

SPLITS = ('train', 'validation', 'test')


class Source(Protocol):
  """Random access to the pieces of one split; safe to use from threads.

  Attributes:
    sample_rate: Of everything that `read` returns, in Hz.
  """

  sample_rate: int

  def __len__(self) -> int:
    """Counts the pieces."""

  def piece_id(self, i: int) -> str:
    """Names piece `i`; the name stays the same from run to run."""

  def num_samples(self, i: int) -> int:
    """Tells the length of piece `i` in samples at `sample_rate`."""

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads samples `[start, start + num_samples)` of piece `i`.

    Args:
      i: Piece, in [0, len(source)).
      start: First sample.
      num_samples: How many; None reads up to the end of the piece.

    Returns:
      float32 [num_samples] in [-1, 1], mono, zeros past the piece's end.
    """

  def describe(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> tuple[str | None, Mapping[str, Hashable] | None]:
    """Draws a sentence on what a crop sounds like, and says what it states.

    Returns:
      The sentence, None if none is known; and what it states, attributes of
      `attributes` and their values, None where that is not known.
    """

  def captioned(self) -> Sequence[int]:
    """Lists the pieces that have a caption, in order."""

  def path(self, i: int) -> Path:
    """Tells the file that holds piece `i`, alone or with others."""

  def written_captions(self, i: int) -> Sequence[str]:
    """Lists what is written on piece `i` outside of its file."""

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable] | None:
    """States what is audible in the crop; None if nothing is known."""


def _open_prepared(folder: str, split: str, sample_rate: int) -> Source:
  from musiclm_jax.data.prepared import PreparedSource

  return PreparedSource(folder, split, sample_rate)


def _open_rendered_music(folder: str, split: str, sample_rate: int) -> Source:
  from musiclm_jax.data import prepared
  from musiclm_jax.rendered_music.source import RenderedMusicSource

  if (Path(folder) / prepared.PLAN).exists():
    return prepared.PreparedSource(folder, split, sample_rate)
  return RenderedMusicSource(folder, split, sample_rate)


def _open_audio_folder(folder: str, split: str, sample_rate: int) -> Source:
  from musiclm_jax.data.audio_folder import AudioFolder

  return AudioFolder(folder, split, sample_rate)


def _open_midi_folder(folder: str, split: str, sample_rate: int) -> Source:
  from musiclm_jax.data.midi_folder import MidiFolder

  return MidiFolder(folder, split, sample_rate)


_OPENERS = {
  'prepared': _open_prepared,
  'rendered_music': _open_rendered_music,
  'audio_folder': _open_audio_folder,
  'midi_folder': _open_midi_folder,
}
KINDS = tuple(_OPENERS)


def open_source(
  spec: str, split: str, sample_rate: int = SAMPLE_RATE
) -> Source:
  """Opens one split of the music that `spec` names.

  Args:
    spec: `'kind:DIR'`, kind one of `KINDS`, DIR as in `contracts.paths.local`.
    split: `'train'`, `'validation'` or `'test'`.
    sample_rate: Of what the source shall return, in Hz.

  Raises:
    UsageError: If kind, folder or split do not exist, or the split is empty.
  """
  kind, _, folder = spec.partition(':')
  if kind not in _OPENERS or not folder:
    raise UsageError(
      f"source '{spec}' is not understood: write kind:DIR with one of "
      f'{", ".join(KINDS)} as kind'
    )
  if split not in SPLITS:
    raise UsageError(f"no split '{split}': choose one of {', '.join(SPLITS)}")
  path = paths.local(folder)
  check_folder(path)
  source = _OPENERS[kind](str(path), split, sample_rate)
  if len(source) == 0:
    raise UsageError(f"source '{spec}' has no piece in its {split} split")
  return source
