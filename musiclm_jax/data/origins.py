"""Provenance of tokens: the files as they were, their captions, the code.

<split>/00003-of-00016.json stands beside a shard; it is written first. Shards
of earlier versions have none: whether their music has changed is not known.

Of a file, size and times are looked at first, since they cost nothing; the
content is hashed where a time differs. The time of the last change of the entry
(ctime) is among them: who replaces a file and sets its time back cannot set
that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from musiclm_jax.contracts import atomic_file

if TYPE_CHECKING:
  from musiclm_jax.data.sources import Source

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class FileStamp:
  """A file as it was.

  Attributes:
    size: In bytes.
    mtime_ns: When its content was changed.
    ctime_ns: When its entry was changed.
    sha256: Of its content; empty where it could not be read, which is never
      the same as anything.
  """

  size: int
  mtime_ns: int
  ctime_ns: int
  sha256: str

  @classmethod
  def of(cls, path: str | os.PathLike) -> 'FileStamp':
    """Stamps a file, before it is read: a later change is seen next time."""
    try:
      return cls(*_look(path), sha256=_hash(path))
    except OSError:
      return cls(0, 0, 0, '')

  def is_untouched(self, path: str | os.PathLike) -> bool:
    """Whether a file's size and times are these; its content is not read."""
    try:
      looks = self.size, self.mtime_ns, self.ctime_ns
      return bool(self.sha256) and _look(path) == looks
    except OSError:
      return False

  def renewed(self, path: str | os.PathLike) -> 'FileStamp | None':
    """The stamp of a file of the same content as this one's, else None."""
    if self.is_untouched(path):
      return self
    try:
      if not self.sha256 or _look(path)[0] != self.size:
        return None
    except OSError:
      return None
    now = FileStamp.of(path)
    return now if now.sha256 == self.sha256 else None


def _look(path: str | os.PathLike) -> tuple[int, int, int]:
  status = os.stat(path)
  return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _hash(path: str | os.PathLike) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


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

  def compare(
    self, old: ShardOrigins, names: Mapping[int, str]
  ) -> tuple[ShardOrigins, list[str]]:
    """Looks whether a shard's pieces are what they were.

    Args:
      old: Of the shard.
      names: Piece -> its id, of all in the shard.

    Returns:
      The same with the times of now, and the ids of those that have changed.
    """
    now = {
      name: self.renewed(i, old.pieces.get(name)) for i, name in names.items()
    }
    changed = [name for name, origin in now.items() if origin is None]
    return dataclasses.replace(old, pieces=now), changed

  def _captions(self, piece: int) -> str | None:
    if not self._captioned:
      return None
    written = json.dumps(self._source.written_captions(piece))
    return hashlib.sha256(written.encode()).hexdigest()
