"""Prepared music: short records, of which a crop reads the few that it needs.

A prepared corpus is a folder that `musiclm_jax.prepare` writes:

  prepared.json                               what it shall hold; written first
  prepared-train.array_record-00003-of-00016  2 s of sound a record
  pieces-train.array_record-00003-of-00016    what is said of each of its pieces
  origins-train-00003-of-00016.json           what these two were made of
  index.json                                  all pieces: ids, lengths, shards
  features.json, dataset_info.json            for TFDS; the latter comes last

A piece lies in one shard, in consecutive records: {piece, start, waveform}.
Samples x in [-1, 1] are mono int16, the nearest to 32767 x, without dither.
"""

import dataclasses
import functools
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts import ownership, record_file
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import name_to_bytes
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data import captions_file
from musiclm_jax.rendered_music import source as old_form
from musiclm_jax.rendered_music.descriptions import Descriptions

SCHEMA_VERSION = 1
# Fast for crops of 1 s and of 10 s alike (experiments/input_speed/).
RECORD_SAMPLES = 2 * SAMPLE_RATE
PLAN, INDEX, DONE = 'prepared.json', 'index.json', 'dataset_info.json'
_SCALE = 32767.0  # of int16: full scale is the same on both sides
FOLDER = ownership.Kind(
  'corpus',
  (
    *(PLAN, INDEX, DONE, 'features.json', 'prepared-*.array_record-*'),
    *('pieces-*.array_record-*', 'origins-*.json', *old_form.FILES),
  ),
  known=lambda folder: (
    {'schema_version', 'record_samples'}
    <= ownership.object_in(folder / PLAN).keys()
    or is_old(folder)
  ),
  alone=True,
)


def is_old(folder: Path) -> bool:
  """Whether a folder is a corpus as earlier versions wrote it."""
  mark = ownership.object_in(folder / old_form.MARK)
  new = (folder / PLAN).exists()
  return not new and mark.get('source') == 'rendered_music'


@dataclasses.dataclass(frozen=True)
class Shard:
  """Pieces [first, last) of a split, as file `number` of `count`."""

  split: str
  number: int
  count: int
  first: int
  last: int

  def path(self, folder: Path, what: str) -> Path:
    """The file of its `'prepared'` sound, or of what is said of `'pieces'`."""
    return folder / f'{what}-{self.split}.array_record-{self._place}'

  def origins(self, folder: Path) -> Path:
    """The file that says what it was made of."""
    return folder / f'origins-{self.split}-{self._place}.json'

  @property
  def _place(self) -> str:
    return f'{self.number:05d}-of-{self.count:05d}'


@functools.cache
def features() -> Any:
  """The features of one record, for TFDS."""
  import tensorflow_datasets as tfds

  return tfds.features.FeaturesDict(
    {
      'piece': tfds.features.Text(),
      'start': tfds.features.Scalar(np.int64),
      'waveform': tfds.features.Tensor(
        shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES
      ),
    }
  )


@functools.cache
def _serializer() -> Any:
  from tensorflow_datasets.core import example_serializer

  return example_serializer.ExampleSerializer(features().get_serialized_info())


def to_record(piece: str, start: int, pcm: np.ndarray) -> bytes:
  """A record as TFDS stores it, of equal bytes for equal arguments.

  Entries come in the order of their names, so that the samples end it.

  Args:
    piece: Its id.
    start: Place of the first sample in the piece.
    pcm: int16 [S].
  """
  row = {'piece': name_to_bytes(piece), 'start': start, 'waveform': pcm}
  message = _serializer().get_tf_example(features().encode_example(row))
  return message.SerializeToString(deterministic=True)


def to_pcm(waveform: np.ndarray) -> np.ndarray:
  """Rounds float [S] in [-1, 1] to int16; what is beyond is cut."""
  return np.rint(waveform.clip(-1.0, 1.0) * np.float32(_SCALE)).astype(np.int16)


def read_object(path: Path) -> dict[str, Any]:
  """Reads one of a corpus's JSON files.

  Raises:
    UsageError: If it is not there, or damaged.
  """
  if not (found := ownership.object_in(path)):
    raise UsageError(
      f'{printable(path.parent)} holds no complete prepared corpus (its '
      f'{path.name} is missing or damaged): run python -m musiclm_jax.prepare '
      f'--source=KIND:DIR --out={printable(path.parent)}'
    )
  return found


class PreparedSource:
  """Reads one split of a prepared corpus; see `sources.Source`.

  Attributes:
    descriptions: What is said of the pieces.
  """

  descriptions: 'Descriptions | WrittenCaptions'

  def __init__(self, folder: str, split: str, sample_rate: int = SAMPLE_RATE):
    """Opens a split.

    Args:
      folder: Of the corpus.
      split: `'train'`, `'validation'` or `'test'`.
      sample_rate: That of the corpus, in Hz.

    Raises:
      UsageError: If the folder is no complete corpus that this version reads,
        or its rate is another.
    """
    self._folder, self._split = Path(folder), split
    if is_old(self._folder):
      raise UsageError(
        f"'{printable(folder)}' is a corpus of an earlier version: read it as "
        f'rendered_music:{printable(folder)}, or prepare that into another '
        'folder'
      )
    plan = read_object(self._folder / PLAN)
    if plan.get('schema_version') != SCHEMA_VERSION:
      raise UsageError(
        f"'{printable(folder)}' was prepared by another version (schema "
        f'{plan.get("schema_version")}, here {SCHEMA_VERSION}): run python -m '
        f'musiclm_jax.prepare --source={printable(plan.get("source"))} '
        f'--out={printable(folder)} --overwrite'
      )
    if sample_rate != plan['sample_rate']:
      raise UsageError(
        f"'{printable(folder)}' was prepared at {plan['sample_rate']} Hz, "
        f'asked for {sample_rate}'
      )
    read_object(self._folder / DONE)
    index = read_object(self._folder / INDEX)['splits'].get(split)
    self.sample_rate = sample_rate
    self._record_samples = plan['record_samples']
    index = index or {'ids': [], 'samples': [], 'captioned': [], 'shards': []}
    self._ids: list[str] = index['ids']
    self._captioned: list[int] = index['captioned']
    self._lengths = np.asarray(index['samples'], np.int64)
    counts = np.asarray(index['shards'], np.int64)
    # Of each piece its shard, and the numbers of its first record and of its
    # row there.
    self._shards = np.repeat(np.arange(len(counts)), counts)
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    self._rows = np.arange(len(self._ids)) - firsts
    ends = np.cumsum(-(-self._lengths // self._record_samples))
    begins = np.concatenate([[0], ends])
    self._records = begins[:-1] - begins[firsts]
    shards = [Shard(split, k, len(counts), 0, 0) for k in range(len(counts))]
    self._paths = [shard.path(self._folder, 'prepared') for shard in shards]
    self._sound = record_file.RecordFiles(self._paths)
    self._said = record_file.RecordFiles(
      [shard.path(self._folder, 'pieces') for shard in shards]
    )
    self.descriptions = (
      Descriptions(split, lambda i: self.said_of(i)['record'])
      if plan['kind'] == 'rendered_music'
      else WrittenCaptions(self)
    )

  def __reduce__(self) -> tuple:
    """Opens the corpus again in another process."""
    return type(self), (str(self._folder), self._split, self.sample_rate)

  def __len__(self) -> int:
    """Counts the pieces."""
    return len(self._ids)

  def piece_id(self, i: int) -> str:
    """Names a piece as the source did that it was prepared from."""
    return self._ids[i]

  def num_samples(self, i: int) -> int:
    """Tells the length of piece `i`."""
    return int(self._lengths[i])

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads [start, start + num_samples) of piece `i`, float32, zero-padded.

    Raises:
      UsageError: If the shard is gone or damaged.
    """
    length, size = int(self._lengths[i]), self._record_samples
    if num_samples is None:
      num_samples = max(length - start, 0)
    out = np.zeros(num_samples, np.float32)
    end = min(start + num_samples, length)
    if start >= end:
      return out
    first, last = start // size, -(-end // size)
    before = int(self._records[i])
    records = self._sound.read(
      int(self._shards[i]), before + first, before + last
    )
    for begin, record in zip(
      range(first * size, last * size, size), records, strict=True
    ):
      held = min(size, length - begin)
      pcm = np.frombuffer(record, '<i2', held, len(record) - 2 * held)
      part = pcm[max(start - begin, 0) : end - begin]
      place = max(begin - start, 0)
      np.multiply(
        part, np.float32(1 / _SCALE), out=out[place : place + len(part)]
      )
    return out

  def describe(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> tuple[str | None, Mapping[str, Hashable] | None]:
    """Draws a caption as the source would that was prepared."""
    return self.descriptions.describe(i, start_seconds, end_seconds, rng)

  def captioned(self) -> Sequence[int]:
    """Lists the pieces that have a caption, in order."""
    return self._captioned

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> Mapping[str, Hashable] | None:
    """States what is audible in the crop; None if nothing is known."""
    return self.descriptions.attributes(i, start_seconds, end_seconds)

  def path(self, i: int) -> Path:
    """Tells the file that holds piece `i`, with others."""
    return self._paths[self._shards[i]]

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists the captions that were written beside the piece's file."""
    return self.descriptions.written(i)

  def said_of(self, i: int) -> dict[str, Any]:
    """Reads what is said of piece `i`: `captions`, or a rendered `record`."""
    row = int(self._rows[i])
    (said,) = self._said.read(int(self._shards[i]), row, row + 1)
    return json.loads(said)


class WrittenCaptions:
  """What somebody has written on the files that a corpus was prepared from."""

  def __init__(self, source: PreparedSource):
    """Takes the prepared pieces."""
    self._source = source

  def written(self, i: int) -> tuple[str, ...]:
    """Lists the captions of piece `i`."""
    return tuple(self._source.said_of(i)['captions'])

  def describe(
    self,
    i: int,
    start_seconds: float,
    end_seconds: float,
    rng: np.random.Generator,
  ) -> tuple[str | None, None]:
    """Draws one of the captions, whatever the crop; see `captions_file`."""
    del start_seconds, end_seconds
    return captions_file.draw(self.written(i), rng)

  def attributes(
    self, i: int, start_seconds: float, end_seconds: float
  ) -> None:
    """Knows nothing about what is audible in a crop."""
    del i, start_seconds, end_seconds
