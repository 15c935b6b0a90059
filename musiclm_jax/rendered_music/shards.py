"""A corpus on disk, shard by shard, so that an interrupted build continues.

TFDS's own generation starts over after a kill. Here each shard is a pure
function of its index and appears by renaming, whole or not at all; the last
act writes the TFDS metadata, whose presence says that the corpus is complete.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from musiclm_jax.contracts import atomic_file, ownership, record_file
from musiclm_jax.contracts.atomic_file import write_text
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.rendered_music import splits, truth

SHARD_PIECES = 16
_MARK = 'corpus.json'  # what the folder shall hold; written first
_LENGTHS = 'lengths.json'  # split -> samples of each piece
_DONE = 'dataset_info.json'  # written last
BYTES_PER_PIECE = 4.4e6  # on average
FOLDER = ownership.Kind(
  'corpus',
  (_MARK, _LENGTHS, _DONE, 'features.json', 'rendered_music-*.array_record-*'),
  known=lambda folder: (
    ownership.object_in(folder / _MARK).get('source') == 'rendered_music'
  ),
  alone=True,
)
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


def missing(folder: Path, corpus: Corpus) -> list[Shard]:
  """Lists the shards that a folder of this corpus lacks.

  Raises:
    UsageError: If the folder holds something else.
  """
  ownership.check(folder, FOLDER)
  found = ownership.object_in(folder / _MARK)
  if not found and any(folder.glob('rendered_music-*')):
    raise UsageError(
      f"'{folder}' holds pieces of a corpus whose {_MARK} (which one it is) "
      'is missing or damaged: choose another --out, or give --overwrite'
    )
  for key, value in corpus.record.items():
    if found and found.get(key) != value:
      raise UsageError(
        f"'{folder}' holds another corpus ({key}={found.get(key)}, asked for "
        f'{value}): choose another --out, or give --overwrite to replace it'
      )
  return [s for s in plan(corpus) if not (folder / s.filename).is_file()]


@contextlib.contextmanager
def hold(
  folder: Path, corpus: Corpus, overwrite: bool = False
) -> Iterator[list[Shard]]:
  """Marks a folder as this corpus, for this run alone.

  Args:
    folder: Of the corpus.
    corpus: What it shall be.
    overwrite: Whether another corpus that is there is replaced.

  Yields:
    The shards that are missing.

  Raises:
    UsageError: If the folder holds something else, or another run builds it.
  """
  with ownership.hold(folder, FOLDER, 'preparing'):
    if overwrite and ownership.object_in(folder / _MARK) != corpus.record:
      ownership.clear(folder, FOLDER)
    shards = missing(folder, corpus)
    atomic_file.remove_leftovers(folder)
    write_text(folder / _MARK, json.dumps(corpus.record, indent=1))
    yield shards


def is_complete(folder: Path, corpus: Corpus) -> bool:
  """Whether the folder holds this corpus, whole."""
  return (folder / _DONE).is_file() and not missing(folder, corpus)


def write(folder: Path, corpus: Corpus, shard: Shard) -> float:
  """Renders one shard and puts it in place; returns its seconds of music.

  Raises:
    OSError: If it cannot be written; nothing is left behind.
  """
  from musiclm_jax.rendered_music import builder

  seconds = []

  def rows() -> Iterator[bytes]:
    for index in range(shard.first, shard.last):
      row = builder.example(corpus.seed, shard.split, index)
      seconds.append(len(row['waveform']) / SAMPLE_RATE)
      yield builder.serialize(row)

  record_file.write(folder / shard.filename, rows(), _OPTIONS)
  return sum(seconds)


def finish(folder: Path, corpus: Corpus) -> None:
  """Writes lengths and TFDS metadata: then the corpus is complete."""
  import tensorflow_datasets as tfds

  from musiclm_jax.rendered_music import builder

  lengths: dict[str, list[int]] = {split: [] for split in splits.SPLITS}
  per_shard: dict[str, list[int]] = {split: [] for split in splits.SPLITS}
  sizes = dict.fromkeys(splits.SPLITS, 0)
  for shard in plan(corpus):
    path = folder / shard.filename
    rows = _lengths(path)
    if len(rows) != shard.last - shard.first:
      path.unlink()
      raise UsageError(
        f'{path} was damaged: run the same command again, which renders it anew'
      )
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
  with atomic_file.part_folder(folder) as part:
    made.info.write_to_directory(part)
    # What says that the corpus is complete comes last.
    for path in sorted(part.iterdir(), key=lambda p: p.name == _DONE):
      path.rename(folder / path.name)


def _lengths(path: Path) -> list[int]:
  """Samples of each piece of a shard; none where it is damaged."""
  from musiclm_jax.rendered_music import builder

  features = builder.features()
  rows = map(features.deserialize_example_np, record_file.read_all(path) or ())
  return [len(row['waveform']) for row in rows]


def read_lengths(folder: Path) -> dict[str, list[int]] | None:
  """Split -> samples of each piece; None if TFDS built the folder."""
  path = folder / _LENGTHS
  return json.loads(path.read_text()) if path.is_file() else None
