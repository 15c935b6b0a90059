"""What can be prepared: the splits of a source, or music that is composed here.

source, or number of pieces and seed -> pieces of each split -> shards of them
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from musiclm_jax.contracts import paths
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import parser_process, prepared, sources
from musiclm_jax.data.origins import Origins
from musiclm_jax.data.prepared import RECORD_SAMPLES, Shard
from musiclm_jax.rendered_music import rendering, splits, truth
from musiclm_jax.rendered_music.source import RenderedMusicSource, piece_id

SHARD_BYTES = 64e6  # of sound, more where a piece is longer
_RENDER_CPU_SECONDS = 600.0
Stretch = tuple[np.ndarray, str | None]


@dataclasses.dataclass(frozen=True)
class Rejected:
  """A file that holds nothing that can be read, and why."""

  path: str
  reason: str


class Pieces(Protocol):
  """The pieces of one split, which are to be prepared."""

  def __len__(self) -> int:
    """Counts them."""

  def piece_id(self, i: int) -> str:
    """Names piece `i`."""

  def num_samples(self, i: int) -> int:
    """Tells or estimates the length of piece `i`, the same every time."""

  def make(self, i: int) -> tuple[Iterator[Stretch], Mapping[str, Any]]:
    """Makes piece `i`.

    Returns:
      Stretches of its sound, each float32 [S] of whole records but for the
      last one, and a reason where it is not what it should be; and what is
      said of it, JSON-able.
    """

  def origins(self) -> Origins | None:
    """Tells what pieces are made of; None where of nothing that may change."""


class SourcePieces:
  """The pieces of a source."""

  def __init__(self, source: Any):
    """Takes a source that also has `decode`."""
    self._source = source
    self._rendered = isinstance(source, RenderedMusicSource)

  def __len__(self) -> int:
    """Counts the pieces."""
    return len(self._source)

  def piece_id(self, i: int) -> str:
    """Names a piece as its source does."""
    return self._source.piece_id(i)

  def num_samples(self, i: int) -> int:
    """Tells the length."""
    return self._source.num_samples(i)

  def make(self, i: int) -> tuple[Iterator[Stretch], Mapping[str, Any]]:
    """Decodes a piece, a long one bit by bit."""
    if self._rendered:
      return self._stretches(i), {'record': self._source.descriptions.truth(i)}
    return self._stretches(i), {'captions': self._source.written_captions(i)}

  def _stretches(self, i: int) -> Iterator[Stretch]:
    count = self._source.num_samples(i)
    step = min(self._source.stretch_seconds * SAMPLE_RATE, count)
    step = max(-(-int(step) // RECORD_SAMPLES), 1) * RECORD_SAMPLES
    for start in range(0, count, step):
      yield self._source.decode(i, start, min(step, count - start))

  def origins(self) -> Origins:
    """Looks up the files that pieces are read from, and their captions."""
    return Origins(self._source, captioned=True)


@dataclasses.dataclass(frozen=True)
class RenderedPieces:
  """The pieces of one split of rendered music, which nobody has rendered yet.

  Attributes:
    split: Its name.
    count: Of its pieces.
    seed: Of the music.
  """

  split: str
  count: int
  seed: int

  def __len__(self) -> int:
    """Counts the pieces."""
    return self.count

  def piece_id(self, i: int) -> str:
    """Names a piece by split and place."""
    return piece_id(self.split, i)

  def num_samples(self, i: int) -> int:
    """Estimates the length."""
    del i
    return rendering.MEAN_SAMPLES

  def make(self, i: int) -> tuple[Iterator[Stretch], Mapping[str, Any]]:
    """Composes and plays a piece."""
    try:
      waveform, record = parser_process.call(
        rendering.render,
        *(self.seed, self.split, i),
        seconds=_RENDER_CPU_SECONDS,
      )
    except parser_process.ParserError as error:
      raise UsageError(
        f'piece {self.piece_id(i)} could not be rendered ({error}): run the '
        'same command again, with fewer --processes if memory is short'
      ) from error
    return iter([(waveform, None)]), {'record': record}

  def origins(self) -> None:
    """Depends on nothing that may change."""


@dataclasses.dataclass(frozen=True)
class Preparable:
  """What is prepared.

  Attributes:
    kind: Of the source.
    name: `'kind:DIR'`, or `'rendered_music'`.
    splits: Name -> its pieces.
    identity: What else decides the content; JSON-able.
    broken: Files of the source that are no pieces, and why.
  """

  kind: str
  name: str
  splits: Mapping[str, Pieces]
  identity: Mapping[str, Any]
  broken: tuple[Rejected, ...] = ()

  @functools.cached_property
  def shards(self) -> list[Shard]:
    """All shards, those of the held-out splits first."""
    found = []
    for split, pieces in reversed(self.splits.items()):
      ends, size = [], 0.0
      for i in range(len(pieces)):
        size += 2 * pieces.num_samples(i)
        if size >= SHARD_BYTES or i + 1 == len(pieces):
          ends.append(i + 1)
          size = 0.0
      for number, (first, last) in enumerate(
        zip([0, *ends], ends, strict=False)
      ):
        found.append(Shard(split, number, len(ends), first, last))
    return found

  def plan(self) -> dict[str, Any]:
    """What a folder of this music shall hold, as stored there."""
    digest = hashlib.sha256()
    for split, pieces in self.splits.items():
      for i in range(len(pieces)):
        line = f'{split} {pieces.num_samples(i)} {pieces.piece_id(i)}\n'
        digest.update(paths.name_to_bytes(line))
    return {
      'schema_version': prepared.SCHEMA_VERSION,
      'kind': self.kind,
      'source': self.name,
      'pieces': {split: len(pieces) for split, pieces in self.splits.items()},
      'pieces_sha256': digest.hexdigest(),
      'sample_rate': SAMPLE_RATE,
      'record_samples': RECORD_SAMPLES,
      **self.identity,
    }


def rendered_music(pieces: int, seed: int) -> Preparable:
  """Music that is composed and rendered while it is prepared.

  Args:
    pieces: In all splits together, at least 3.
    seed: Of the music.
  """
  return Preparable(
    'rendered_music',
    'rendered_music',
    {
      split: RenderedPieces(split, count, seed)
      for split, count in splits.sizes(pieces).items()
    },
    {'version': truth.VERSION, 'seed': seed},
  )


def open_music(spec: str) -> Preparable:
  """Opens a source that is to be prepared, all splits of it.

  Args:
    spec: `'kind:DIR'`.

  Raises:
    UsageError: If there is no such source, or it is prepared already.
  """
  opened = {}
  for split in sources.SPLITS:
    opened[split] = sources.open_source(spec, split)
    if isinstance(opened[split], prepared.PreparedSource):
      raise UsageError(f"source '{spec}' is prepared already: read it as it is")
    opened[split].captioned()  # what is wrong with them is said before the work
  kind, _, folder = spec.partition(':')
  return Preparable(
    kind,
    f'{kind}:{paths.local(folder).resolve()}',
    {split: SourcePieces(source) for split, source in opened.items()},
    {},
    tuple(Rejected(*pair) for pair in opened['train'].broken),
  )
