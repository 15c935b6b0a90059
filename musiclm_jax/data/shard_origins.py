"""What a shard of tokens was made of: the files of its pieces, their captions.

<split>/00003-of-00016.json beside the shard; it is written first. Shards of
earlier versions have none: whether their music has changed is not known.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from musiclm_jax.contracts import atomic_file
from musiclm_jax.data.file_stamp import FileStamp
from musiclm_jax.data.sources import Source

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Origin:
  """What one piece was made of.

  Attributes:
    file: That holds the piece, perhaps with others.
    captions: SHA-256 of what is written on it, where captions take part.
  """

  file: FileStamp
  captions: str | None = None


@dataclasses.dataclass(frozen=True)
class ShardOrigins:
  """What a shard was made of.

  Attributes:
    pieces: Piece id -> origin.
    code: Hash of the code that made it.
  """

  pieces: Mapping[str, Origin]
  code: str

  def digest(self) -> str:
    """A hash that is equal iff contents and code are."""
    parts = [
      (name, origin.file.sha256, origin.captions)
      for name, origin in sorted(self.pieces.items())
    ]
    return hashlib.sha256(json.dumps([self.code, parts]).encode()).hexdigest()

  def write(self, path: Path) -> None:
    """Writes a record, whole or not at all."""
    fields = {'schema_version': SCHEMA_VERSION} | dataclasses.asdict(self)
    atomic_file.write_text(path, json.dumps(fields, indent=1) + '\n')

  @classmethod
  def read(cls, path: Path) -> 'ShardOrigins | None':
    """Reads a record; None where there is none that can be read."""
    try:
      fields = json.loads(path.read_text(encoding='utf-8'))
      if fields['schema_version'] != SCHEMA_VERSION:
        return None
      pieces = {
        name: Origin(FileStamp(**origin['file']), origin['captions'])
        for name, origin in fields['pieces'].items()
      }
      return cls(pieces, fields['code'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
      return None


class Origins:
  """Looks up what the pieces of a source are made of, each file once."""

  def __init__(self, source: Source, *, captioned: bool):
    """Takes a source, and whether captions take part in its tokens."""
    self._source, self._captioned = source, captioned
    self._stamps: dict[Path, FileStamp] = {}

  def of(self, piece: int) -> Origin:
    """What a piece is made of now."""
    path = self._source.path(piece)
    if path not in self._stamps:
      self._stamps[path] = FileStamp.of(path)
    return Origin(self._stamps[path], self._captions(piece))

  def renewed(self, piece: int, old: Origin | None) -> Origin | None:
    """The origin of a piece that is what it was, with its times; else None."""
    if old is None:
      return None
    path = self._source.path(piece)
    if path not in self._stamps:
      self._stamps[path] = old.file.renewed(path) or FileStamp.of(path)
    same = self._stamps[path].sha256 == old.file.sha256 != ''
    if not same or self._captions(piece) != old.captions:
      return None
    return Origin(self._stamps[path], old.captions)

  def _captions(self, piece: int) -> str | None:
    if not self._captioned:
      return None
    written = json.dumps(self._source.written_captions(piece))
    return hashlib.sha256(written.encode()).hexdigest()
