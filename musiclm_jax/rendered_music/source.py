"""Rendered music as a source: pieces, and what is audible in their crops."""

import functools
import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain
from musiclm_jax.rendered_music import captions, shards, truth

_CACHED_PIECES = 2  # several reads of one piece in a row are common
_CACHED_CROPS = 16  # as are several captions of one crop
_CROP_FIELDS = (
  *('seconds', 'style', 'bpm', 'metre', 'mode', 'lead_family'),
  *('lead_program', 'sections', 'effects'),
)


class RenderedMusicSource:
  """Reads one split of a corpus; see `sources.Source`."""

  def __init__(self, folder: str, split: str, sample_rate: int = SAMPLE_RATE):
    """Opens a corpus that `musiclm_jax.prepare` or TFDS has built.

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
    if not (Path(folder) / 'dataset_info.json').is_file():
      raise UsageError(
        f'{folder} holds no complete corpus: run python -m '
        f'musiclm_jax.prepare --source=rendered_music --out={folder}'
      )
    import tensorflow_datasets as tfds

    self.sample_rate = SAMPLE_RATE
    self._split = split
    self._builder = tfds.builder_from_directory(plain(folder))
    self._rows = self._builder.as_data_source(split)
    lengths = shards.read_lengths(Path(folder))
    self._lengths = lengths[split] if lengths else None
    self._facts: dict[int, dict[str, Any]] = {}
    self._row = functools.lru_cache(_CACHED_PIECES)(self._rows.__getitem__)
    self._audible = functools.lru_cache(_CACHED_CROPS)(
      lambda i, start, end: truth.audible(self._compact(i), start, end)
    )

  def __len__(self) -> int:
    """Counts the pieces."""
    return len(self._rows)

  def piece_id(self, i: int) -> str:
    """Names piece `i`: split and place."""
    return f'{self._split}-{i:06d}'

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

  def caption(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> str:
    """Writes a caption on what is audible in the crop."""
    return self.described(i, start_seconds, end_seconds, rng).text

  def num_captioned(self) -> int:
    """Counts all pieces: each is described by what it is made of."""
    return len(self)

  def path(self, i: int) -> Path:
    """Tells the file that holds piece `i`, some before and some after it."""
    paths, ends = self._files
    return paths[int(np.searchsorted(ends, i, side='right'))]

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists none: captions are made of what the piece's own file says."""
    del i
    return ()

  @functools.cached_property
  def _files(self) -> tuple[list[Path], np.ndarray]:
    """The split's files and the first piece after each."""
    split = self._builder.info.splits[self._split]
    return list(map(Path, split.filepaths)), np.cumsum(split.shard_lengths)

  def described(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> captions.Caption:
    """A caption with what it states, for evaluation."""
    audible = self._audible(i, start_seconds, end_seconds)
    return captions.write(audible, self._split, rng)

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable]:
    """States what is audible in the crop; see `truth.audible`."""
    return self._audible(i, start_seconds, end_seconds)

  def truth(self, i: int) -> dict[str, Any]:
    """The whole record of a piece, its notes under `notes`."""
    row = self._row(i)
    return json.loads(row['truth']) | {'notes': json.loads(row['notes'])}

  def _compact(self, i: int) -> dict[str, Any]:
    """What crops need to know of a piece, kept in memory (about 10 kB)."""
    if i not in self._facts:
      record = json.loads(self._row(i)['truth'])
      facts = {field: record[field] for field in _CROP_FIELDS}
      for grid in ('onsets', 'loudness_grid', 'brightness_grid'):
        facts[grid] = np.array(record[grid], np.float32)
      facts['parts'] = [
        {
          **{k: part[k] for k in ('role', 'name', 'family')},
          'levels': np.array(part['levels'], np.int8),
        }
        for part in record['parts']
      ]
      self._facts[i] = facts
    return self._facts[i]
