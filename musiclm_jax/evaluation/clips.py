"""Folders of clips: read one by one, and what cannot be used is named.

folder -> `ClipFolder` -> waveform [S] of each clip at any rate, mono
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.data.audio_folder import KIND, AudioFolder
from musiclm_jax.data.folder_listing import check_folder, list_files
from musiclm_jax.dsp.level import rms_dbfs

SILENT_DBFS = -60.0


@dataclasses.dataclass(frozen=True)
class SoundClip:
  """A clip that was read.

  Attributes:
    index: In its folder.
    name: Relative to the folder, with `/`.
    waveform: float32 [S] in [-1, 1].
  """

  index: int
  name: str
  waveform: np.ndarray


class ClipFolder:
  """All sound files of a folder, at any depth.

  Attributes:
    path: Of the folder.
    names: Of the readable clips, sorted.
    skipped: Names of files that are no readable sound; why is reported on
      standard error as they are found.
    silent: Names of clips below -60 dBFS, known once they have been read.
  """

  def __init__(self, path: str | os.PathLike):
    """Scans the folder.

    Raises:
      UsageError: If it is missing or holds no readable sound.
    """
    self.path = Path(path)
    check_folder(self.path)
    self._sources: dict[int, AudioFolder] = {}
    first = self.source(16_000)
    self.names = [first.piece_id(i) for i in range(len(first))]
    listed = list_files(self.path, KIND.suffixes).files
    known = set(self.names)
    self.skipped = sorted(name for name, *_ in listed if name not in known)
    self.silent: set[str] = set()

  def __len__(self) -> int:
    """Counts the readable clips."""
    return len(self.names)

  def source(self, sample_rate: int) -> AudioFolder:
    """The folder at a rate; its files are scanned once."""
    if sample_rate not in self._sources:
      self._sources[sample_rate] = AudioFolder(
        str(self.path), 'all', sample_rate
      )
    return self._sources[sample_rate]

  def place(self, index: int) -> int:
    """Where a clip stands in `source`."""
    return index

  def caption(self, index: int) -> str | None:
    """The first caption that is written beside a clip, None without one.

    Raises:
      UsageError: If captions.csv cannot be read as it was meant.
    """
    written = self.source(16_000).written_captions(self.place(index))
    return written[0] if written else None

  def read(self, index: int, sample_rate: int) -> SoundClip:
    """Reads a clip, resampled and mixed to mono."""
    waveform = self.source(sample_rate).read(self.place(index))
    name = self.names[index]
    if rms_dbfs(waveform) < SILENT_DBFS:
      self.silent.add(name)
    return SoundClip(index, name, waveform)

  def clips(
    self,
    sample_rate: int,
    stage: str,
    progress: ProgressCallback | None = None,
    chosen: Sequence[int] | None = None,
  ) -> Iterator[SoundClip]:
    """Reads clips one after another; memory does not grow with their number.

    Args:
      sample_rate: Of the waveforms, in Hz.
      stage: Name of what is done, for the progress.
      progress: Takes events, counted in clips.
      chosen: Which ones; None: all.
    """
    chosen = range(len(self)) if chosen is None else chosen
    meter = Meter(stage, len(chosen), 'clips', progress)
    for index in chosen:
      yield self.read(index, sample_rate)
      meter.advance()


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Clips of two folders that have one name.

  Attributes:
    indices: (of the reference, of the generated), by name.
    without_generated: Names of the reference's clips that have no partner.
    without_reference: Names of generated clips that have none.
  """

  indices: tuple[tuple[int, int], ...]
  without_generated: tuple[str, ...]
  without_reference: tuple[str, ...]


def pair(reference: ClipFolder, generated: ClipFolder) -> Pairs:
  """Pairs clips by their names without suffix.

  Raises:
    UsageError: If no name is in both folders, or one stands for two clips.
  """
  sides = [_stems(reference), _stems(generated)]
  common = sorted(sides[0].keys() & sides[1].keys())
  without = [
    tuple(sorted(folder.names[side[s]] for s in side.keys() - other.keys()))
    for folder, side, other in (
      (reference, sides[0], sides[1]),
      (generated, sides[1], sides[0]),
    )
  ]
  if not common:
    missing = [printable(name) for name in without[0]]
    raise UsageError(
      f"no clip of '{printable(generated.path)}' has the name of one of "
      f"'{printable(reference.path)}': missing are {first_few(missing)}: name "
      'generated clips as their references'
    )
  return Pairs(tuple((sides[0][n], sides[1][n]) for n in common), *without)


def stem(name: str) -> str:
  """The name by which clips are paired: without suffix."""
  return str(PurePosixPath(name).with_suffix(''))


def _stems(folder: ClipFolder) -> dict[str, int]:
  """Index by name without suffix."""
  found: dict[str, int] = {}
  for index, name in enumerate(folder.names):
    own = stem(name)
    if own in found:
      raise UsageError(
        f"'{printable(folder.path)}' has both "
        f"'{printable(folder.names[found[own]])}' and '{printable(name)}': "
        'clips are paired by names without suffix, keep one'
      )
    found[own] = index
  return found
