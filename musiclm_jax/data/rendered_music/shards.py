"""A corpus on disk, shard by shard, so that an interrupted build continues.

TFDS's own generation starts over after a kill. Here each shard is a pure
function of its index and appears by renaming, whole or not at all; the last
act writes the TFDS metadata, whose presence says that the corpus is complete.
"""

import dataclasses
import json
import os
from pathlib import Path

from musiclm_jax.contracts.atomic_file import write_text
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.rendered_music import splits, truth

SHARD_PIECES = 16
_MARK = 'corpus.json'  # what the folder shall hold; written first
_LENGTHS = 'lengths.json'  # split -> samples of each piece
_DONE = 'dataset_info.json'  # written last
_OPTIONS = 'group_size:1,uncompressed'


@dataclasses.dataclass(frozen=True)
class Corpus:
  """What decides the content of a corpus.

  Attributes:
    pieces: In all splits together, at least 3.
    seed: Of the corpus.
  """

  pieces: int
  seed: int

  @property
  def record(self) -> dict[str, int | str]:
    """As stored beside the shards."""
    return {
      'source': 'rendered_music',
      'version': truth.VERSION,
      'pieces': self.pieces,
      'seed': self.seed,
    }


@dataclasses.dataclass(frozen=True)
class Shard:
  """Pieces [first, last) of a split, as file `number` of `count`."""

  split: str
  number: int
  count: int
  first: int
  last: int

  @property
  def filename(self) -> str:
    """As TFDS names it."""
    place = f'{self.number:05d}-of-{self.count:05d}'
    return f'rendered_music-{self.split}.array_record-{place}'


def plan(corpus: Corpus) -> list[Shard]:
  """The shards of a corpus, held-out splits first."""
  out = []
  for split, pieces in reversed(splits.sizes(corpus.pieces).items()):
    count = -(-pieces // SHARD_PIECES)
    for number in range(count):
      first = number * SHARD_PIECES
      last = min(first + SHARD_PIECES, pieces)
      out.append(Shard(split, number, count, first, last))
  return out


def begin(folder: Path, corpus: Corpus) -> list[Shard]:
  """Marks a folder as this corpus and lists the shards that are missing.

  Raises:
    UsageError: If the folder holds something else.
  """
  mark = folder / _MARK
  if mark.is_file():
    try:
      found = json.loads(mark.read_text())
    except ValueError as error:
      raise UsageError(f'{mark} is damaged: remove the folder') from error
    if found != corpus.record:
      differing = [k for k in corpus.record if found.get(k) != corpus.record[k]]
      raise UsageError(
        f'{folder} holds another corpus ({differing[0]}='
        f'{found.get(differing[0]) if differing else "?"}, asked for '
        f'{corpus.record[differing[0]] if differing else "?"}): remove it or '
        'choose another --out'
      )
  elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise UsageError(f'{folder} exists and is no corpus: choose another --out')
  else:
    write_text(mark, json.dumps(corpus.record, indent=1))
  for left in folder.glob('*.part'):
    left.unlink(missing_ok=True)  # of a killed run
  return [s for s in plan(corpus) if not (folder / s.filename).is_file()]


def is_complete(folder: Path, corpus: Corpus) -> bool:
  """Whether the folder holds this corpus, whole."""
  return (folder / _DONE).is_file() and not begin(folder, corpus)


def write(folder: Path, corpus: Corpus, shard: Shard) -> float:
  """Renders one shard and puts it in place; returns its seconds of music.

  Raises:
    OSError: If it cannot be written; nothing is left behind.
  """
  from array_record.python import array_record_module

  from musiclm_jax.data.rendered_music import builder

  final = folder / shard.filename
  part = folder / f'.{shard.filename}.{os.getpid()}.part'
  seconds = 0.0
  try:
    writer = array_record_module.ArrayRecordWriter(str(part), _OPTIONS)
    for index in range(shard.first, shard.last):
      row = builder.example(corpus.seed, shard.split, index)
      seconds += len(row['waveform']) / 24_000
      writer.write(builder.serialize(row))
    writer.close()
    # The writer does not report what it could not write.
    reader = array_record_module.ArrayRecordReader(str(part))
    if reader.num_records() != shard.last - shard.first:
      raise OSError(28, 'could not be written whole', str(final))
    os.replace(part, final)
  except RuntimeError as error:  # array_record's own
    raise OSError(5, f'could not be written ({error})', str(final)) from error
  finally:
    part.unlink(missing_ok=True)
  return seconds


def finish(folder: Path, corpus: Corpus) -> None:
  """Writes lengths and TFDS metadata: the corpus is complete hereafter."""
  import tensorflow_datasets as tfds

  from musiclm_jax.data.rendered_music import builder

  lengths: dict[str, list[int]] = {split: [] for split in splits.SPLITS}
  per_shard: dict[str, list[int]] = {split: [] for split in splits.SPLITS}
  sizes = dict.fromkeys(splits.SPLITS, 0)
  for shard in plan(corpus):
    path = folder / shard.filename
    rows = _lengths(path)
    if len(rows) != shard.last - shard.first:
      path.unlink()
      raise UsageError(f'{path} was damaged and is removed: run this again')
    lengths[shard.split] += rows
    per_shard[shard.split].append(len(rows))
    sizes[shard.split] += path.stat().st_size
  write_text(folder / _LENGTHS, json.dumps(lengths))
  made = builder.RenderedMusic(
    config=builder.RenderedMusicConfig(
      name=f'pieces{corpus.pieces}_seed{corpus.seed}',
      pieces=corpus.pieces,
      seed=corpus.seed,
    ),
    data_dir=str(folder / 'unused'),
    file_format='array_record',
  )
  template = tfds.core.ShardedFileTemplate(
    data_dir=folder,
    dataset_name=builder.NAME,
    filetype_suffix='array_record',
    template='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
  )
  infos = [
    tfds.core.SplitInfo(
      name=split,
      shard_lengths=per_shard[split],
      num_bytes=sizes[split],
      filename_template=template.replace(split=split),
    )
    for split in splits.SPLITS
  ]
  made.info.set_splits(tfds.core.SplitDict(infos))
  made.info.write_to_directory(folder)


def _lengths(path: Path) -> list[int]:
  """Samples of each piece of a shard."""
  from array_record.python import array_record_module

  from musiclm_jax.data.rendered_music import builder

  features = builder.features()
  try:
    reader = array_record_module.ArrayRecordReader(str(path))
    return [
      len(features.deserialize_example_np(row)['waveform'])
      for row in reader.read_all()
    ]
  except (RuntimeError, ValueError, IndexError):
    return []


def read_lengths(folder: Path) -> dict[str, list[int]] | None:
  """Split -> samples of each piece; None if another hand built the folder."""
  path = folder / _LENGTHS
  return json.loads(path.read_text()) if path.is_file() else None
