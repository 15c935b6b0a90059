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
from musiclm_jax.contracts.paths import plain_file

_WHOLE = 'readahead_buffer_size:0,max_parallelism:0'


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
    again = hashlib.sha256()
    for row in read_all(part) or ():
      again.update(row)
    if again.digest() != digest.digest():
      raise OSError(28, 'could not be written whole', str(path))
  return count


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


def source(files: Sequence[Path]) -> Any:
  """Opens files as one sequence of records."""
  from array_record.python import array_record_data_source

  return array_record_data_source.ArrayRecordDataSource(list(map(_name, files)))


def _name(path: Path) -> str:
  return str(plain_file(path))
