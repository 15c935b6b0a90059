"""A corpus of rendered music as earlier versions stored it: whole pieces.

One TFDS example is a piece: id, waveform int16 [S] at 24 kHz, ground truth and
notes as JSON text. `musiclm_jax.prepare` turns it into a prepared corpus, which
is read ten times as fast.
"""

import functools
import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain
from musiclm_jax.rendered_music.descriptions import Descriptions

MARK = 'corpus.json'  # what the folder holds
_LENGTHS = 'lengths.json'  # split -> samples of each piece
_DONE = 'dataset_info.json'
FILES = (MARK, _LENGTHS, _DONE, 'features.json', 'rendered_music-*')
_CACHED_PIECES = 2  # several reads of one piece in a row are common


class RenderedMusicSource:
  """Reads one split of a corpus; see `sources.Source`.

  Attributes:
    descriptions: What is said about the pieces.
    stretch_seconds: Infinite: a part of a piece costs as much as the whole.
    broken: None.
  """

  stretch_seconds = float('inf')
  broken = ()

  def __init__(self, folder: str, split: str, sample_rate: int = SAMPLE_RATE):
    """Opens a corpus that an earlier `musiclm_jax.prepare` or TFDS has built.

    Args:
      folder: Holds `dataset_info.json`.
      split: `'train'`, `'validation'` or `'test'`.
      sample_rate: 24,000, at which the corpus is rendered.

    Raises:
      UsageError: If the folder holds no complete corpus, or at another rate.
    """
    if sample_rate != SAMPLE_RATE:
      raise UsageError(
        f'rendered music is at {SAMPLE_RATE} Hz, asked for {sample_rate}'
      )
    if not (Path(folder) / _DONE).is_file():
      raise UsageError(
        f'{folder} holds no complete corpus: run python -m '
        f'musiclm_jax.prepare --source=rendered_music --out={folder}'
      )
    import tensorflow_datasets as tfds

    self.sample_rate = SAMPLE_RATE
    self.descriptions = Descriptions(split, self._truth)
    self._folder, self._split = folder, split
    self._builder = tfds.builder_from_directory(plain(folder))
    self._rows = self._builder.as_data_source(split)
    lengths = Path(folder) / _LENGTHS  # which TFDS itself does not write
    found = json.loads(lengths.read_text()) if lengths.is_file() else {}
    self._lengths = found.get(split)
    self._row = functools.lru_cache(_CACHED_PIECES)(self._rows.__getitem__)

  def __reduce__(self) -> tuple:
    """Opens the corpus again in another process."""
    return type(self), (self._folder, self._split)

  def __len__(self) -> int:
    """Counts the pieces."""
    return len(self._rows)

  def piece_id(self, i: int) -> str:
    """Names piece `i`: split and place."""
    return piece_id(self._split, i)

  def num_samples(self, i: int) -> int:
    """Tells the length of piece `i`."""
    if self._lengths is None:
      self._lengths = [len(row['waveform']) for row in self._rows]
    return self._lengths[i]

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads [start, start + num_samples) of piece `i`, float32, zero-padded."""
    pcm = self._row(i)['waveform']
    if num_samples is None:
      num_samples = max(len(pcm) - start, 0)
    part = pcm[start : start + num_samples]
    out = np.zeros(num_samples, np.float32)
    np.multiply(part, np.float32(1 / 32767), out=out[: len(part)])
    return out

  def decode(
    self, i: int, start: int, num_samples: int
  ) -> tuple[np.ndarray, None]:
    """Reads as `read`; there is nothing that could not be."""
    return self.read(i, start, num_samples), None

  def describe(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> tuple[str, Mapping[str, Hashable]]:
    """Writes a caption on what is audible in the crop, and what it states."""
    return self.descriptions.describe(i, start_seconds, end_seconds, rng)

  def captioned(self) -> range:
    """Lists all pieces: each is described by what it is made of."""
    return range(len(self))

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable]:
    """States what is audible in the crop; see `truth.audible`."""
    return self.descriptions.attributes(i, start_seconds, end_seconds)

  def path(self, i: int) -> Path:
    """Tells the file that holds piece `i`, some before and some after it."""
    paths, ends = self._files
    return paths[int(np.searchsorted(ends, i, side='right'))]

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists none; see `Descriptions.written`."""
    return self.descriptions.written(i)

  @functools.cached_property
  def _files(self) -> tuple[list[Path], np.ndarray]:
    """The split's files and the first piece after each."""
    split = self._builder.info.splits[self._split]
    return list(map(Path, split.filepaths)), np.cumsum(split.shard_lengths)

  def _truth(self, i: int) -> dict[str, Any]:
    row = self._row(i)
    return json.loads(row['truth']) | {'notes': json.loads(row['notes'])}


def piece_id(split: str, index: int) -> str:
  """Names a piece of rendered music: split and place."""
  return f'{split}-{index:06d}'
