"""Files of records (array_record): written whole, read back, then in place.

The library reports neither a disk that is full nor one that fails, so a file
counts as written when each of its records has been read again.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.paths import plain_file
from musiclm_jax.contracts.terminal import printable

_WHOLE = 'readahead_buffer_size:0,max_parallelism:0'
_ROWS = 256  # that are compared at once with what was written


def write(
  path: str | os.PathLike, records: Iterable[bytes], options: str
) -> int:
  """Writes records to `path`, whole or not at all.

  Args:
    path: Of the file; its folder is made.
    records: What to write.
    options: Of array_record's writer.

  Returns:
    Number of records.

  Raises:
    OSError: Naming `path`, if the disk does not take them.
  """
  from array_record.python import array_record_module

  count, digest = 0, hashlib.sha256()
  with atomic_file.atomic_path(path) as part:
    try:
      writer = array_record_module.ArrayRecordWriter(_name(part), options)
      for record in records:
        writer.write(record)
        digest.update(record)
        count += 1
      writer.close()
    except RuntimeError as error:  # array_record's own
      reason = str(error).split(';')[0]
      raise OSError(5, f'could not be written ({reason})', str(path)) from error
    if _with_reader(part, _digest) != digest.digest():
      raise OSError(28, 'could not be written whole', str(path))
  return count


def _digest(reader: Any) -> bytes:
  digest = hashlib.sha256()
  count = reader.num_records()
  for first in range(0, count, _ROWS):
    for row in reader.read(first, min(first + _ROWS, count)):
      digest.update(row)
  return digest.digest()


def read_all(path: Path) -> list[bytes] | None:
  """Reads all records; None where the file is damaged, cut short or gone."""
  return _with_reader(path, lambda reader: list(reader.read_all()))


def num_records(path: Path) -> int | None:
  """Counts records by the footer; None where it is damaged or cut short."""
  return _with_reader(path, lambda reader: reader.num_records())


def _with_reader(path: Path, read: Callable[[Any], Any]) -> Any:
  from array_record.python import array_record_module

  try:
    reader = array_record_module.ArrayRecordReader(_name(path), _WHOLE)
    found = read(reader)
    reader.close()  # says only now what was wrong
  except (RuntimeError, ValueError, IndexError):
    return None
  return found


class RecordFiles:
  """Reads runs of records out of files; safe to use from threads, picklable."""

  def __init__(self, files: Sequence[Path]):
    """Takes the files, each of which is opened when it is first read."""
    self._files = tuple(files)
    self._readers: dict[int, Any] = {}

  def read(self, file: int, first: int, last: int) -> list[bytes]:
    """Reads records [first, last) of a file.

    Args:
      file: Its index.
      first: The first record.
      last: The record after the last one.

    Raises:
      UsageError: If the file is gone or damaged.
    """
    from array_record.python import array_record_module

    try:
      if (reader := self._readers.get(file)) is None:
        reader = array_record_module.ArrayRecordReader(
          _name(self._files[file]), _WHOLE
        )
        reader = self._readers.setdefault(file, reader)
      return reader.read(first, last)
    except (RuntimeError, ValueError, IndexError) as error:
      raise UsageError(
        f'{printable(self._files[file])} is gone, damaged or cut short: remove '
        'it and run the command that has made it again, which makes it anew'
      ) from error

  def __getstate__(self) -> tuple[Path, ...]:
    """The files alone: another process opens them itself."""
    return self._files

  def __setstate__(self, files: tuple[Path, ...]) -> None:
    """Takes the files."""
    self.__init__(files)


def source(files: Sequence[Path]) -> Any:
  """Opens files as one sequence of records."""
  from array_record.python import array_record_data_source

  return array_record_data_source.ArrayRecordDataSource(list(map(_name, files)))


def _name(path: Path) -> str:
  return str(plain_file(path))
