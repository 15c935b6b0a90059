"""captions.csv beside sound files: rows of path,caption -> captions by file.

Columns are divided by commas, semicolons or tabs, as the first line has them;
the text is UTF-8, or UTF-16 with its mark, which spreadsheets write. Files are
found by their names as written, in any Unicode normal form.
A row that cannot be read as it was meant is an error that names its line.
"""

import codecs
import csv
import dataclasses
import functools
import io
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable

NAME = 'captions.csv'
_COLUMNS = ('path', 'caption')
_DELIMITERS = (',', ';', '\t')
_SHOWN = 60  # characters of what is quoted from the file


@dataclasses.dataclass(frozen=True)
class Captions:
  """What a captions file says of a folder's files.

  Attributes:
    of: Name of a file -> its captions, in the order of the rows.
    remarks: Lines on rows that match no file and on files without a row.
  """

  of: Mapping[str, tuple[str, ...]]
  remarks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _CaptionRow:
  """A row, and the line where it begins."""

  line: int
  path: str
  caption: str


def draw(
  captions: Sequence[str], rng: np.random.Generator
) -> tuple[str | None, None]:
  """Draws one of the captions of a file, as `Source.describe` does.

  None without one; nobody knows what a written caption states of a crop.
  """
  return (captions[rng.integers(len(captions))] if captions else None), None


def of_folder(
  folder: Path, names: tuple[str, ...]
) -> Mapping[str, tuple[str, ...]]:
  """Reads a folder's captions, where it has some; remarks go to stderr, once.

  Args:
    folder: Of the sound files.
    names: Of all of them.

  Returns:
    Name -> captions.

  Raises:
    UsageError: As `read`.
    OSError: If the file is there and cannot be opened.
  """
  path = folder / NAME
  # A link that leads nowhere is no absence.
  if not os.path.lexists(path):
    return {}
  status = path.stat()
  return _once(path, (status.st_size, status.st_mtime_ns), names)


@functools.lru_cache(maxsize=4)
def _once(
  path: Path, stamp: tuple[int, int], names: tuple[str, ...]
) -> Mapping[str, tuple[str, ...]]:
  """Reads and remarks; cached, as each split asks for the same."""
  del stamp
  captions = read(path, names)
  for remark in captions.remarks:
    print(remark, file=sys.stderr)
  return captions.of


def read(path: Path, names: Sequence[str]) -> Captions:
  """Reads a captions file and finds the file of each row.

  Args:
    path: Of the captions file, in the folder of the sound files.
    names: Of these, relative to the folder, with `/`.

  Raises:
    UsageError: If it is no such file, naming the first line that is wrong.
  """
  if path.is_dir():
    raise UsageError(f'{printable(path)} is a folder, expected a CSV file')
  delimiter, rows = _parse(path, _decode(path, path.read_bytes()))
  files = _Names(path.parent, names)
  found: dict[str, list[str]] = {}
  lost = []
  for row in rows:
    if name := files.find(row.path):
      _check_swallowed(path, row, files, delimiter)
      found.setdefault(name, []).append(row.caption)
    else:
      hint = files.nearly(row.path)
      lost.append(
        f"'{printable(row.path)[:_SHOWN]}' (line {row.line}"
        + (f"; there is '{printable(hint)}'" if hint else '')
        + ')'
      )
  without = [f"'{printable(name)}'" for name in names if name not in found]
  remarks = []
  if lost:
    remarks.append(
      f'{printable(path)}: {len(lost)} of {len(rows)} rows name no readable '
      f'file of this folder: {first_few(lost)}'
    )
  if without:
    remarks.append(
      f'{printable(path)}: {len(without)} of {len(names)} files have no '
      f'caption: {first_few(without)}'
    )
  return Captions({n: tuple(c) for n, c in found.items()}, tuple(remarks))


class _Names:
  """Files of a folder, found by what a captions file calls them."""

  def __init__(self, folder: Path, names: Sequence[str]):
    self._folder = folder.resolve().as_posix()
    self._names = set(names)
    self._composed: dict[str, set[str]] = {}
    self._loose: dict[str, str] = {}
    for name in names:
      self._composed.setdefault(_nfc(name), set()).add(name)
      self._loose.setdefault(_loosely(name), name)

  def find(self, path: str) -> str | None:
    """The one file of that name, however its letters are composed."""
    if path in self._names:
      return path
    for spelling in (path, self._relative(path)):
      found = self._composed.get(_nfc(spelling), ())
      if len(found) == 1:
        return next(iter(found))
    return None

  def nearly(self, path: str) -> str | None:
    """A file whose name differs in case, blanks or the suffix only."""
    relative = self._relative(path)
    suffixless = self._loose.get(_loosely(f'{relative}.x'))
    return self._loose.get(_loosely(relative), suffixless)

  def _relative(self, path: str) -> str:
    """The path within the folder, with `/` and without `.` and `..`."""
    path = path.replace('\\', '/').removeprefix(f'{self._folder}/')
    return os.path.normpath(path) if path else path


def _nfc(name: str) -> str:
  return unicodedata.normalize('NFC', name)


def _loosely(name: str) -> str:
  path = PurePosixPath(_nfc(name).casefold().strip())
  return (path.parent / path.stem.strip()).as_posix()


def _decode(path: Path, data: bytes) -> str:
  marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
  encoding = 'utf-16' if data.startswith(marks) else 'utf-8-sig'
  try:
    return data.decode(encoding)
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise UsageError(
      f'{printable(path)}, line {line}: byte 0x{data[error.start]:02x} is not '
      f'{encoding.removesuffix("-sig").upper()}: save the file as CSV, UTF-8'
    ) from error


def _parse(path: Path, text: str) -> tuple[str, list[_CaptionRow]]:
  """Divides a text into its delimiter and its rows."""
  first = next(iter(io.StringIO(text, newline='')), '').rstrip('\r\n')
  for delimiter in _DELIMITERS:
    columns = next(csv.reader([first], delimiter=delimiter), [])
    columns = [column.strip().casefold() for column in columns]
    if set(_COLUMNS) <= set(columns):
      break
  else:
    raise UsageError(
      f'{printable(path)}: the first line must name the columns path,caption, '
      f'it is {printable(first)[:_SHOWN] or "empty"}'
    )
  places = [columns.index(column) for column in _COLUMNS]
  reader = csv.reader(
    io.StringIO(text, newline=''), delimiter=delimiter, strict=True
  )
  next(reader)
  rows = []
  while True:
    line = reader.line_num + 1
    try:
      fields = next(reader, None)
    except csv.Error as error:
      raise UsageError(
        f'{printable(path)}, line {line}: {_reason(error)}'
      ) from error
    if fields is None:
      return delimiter, rows
    if any(field.strip() for field in fields):
      _check_fields(path, line, fields, columns, delimiter)
      name, caption = (fields[place] for place in places)
      if caption.strip():
        rows.append(_CaptionRow(line, name, caption.strip()))


def _reason(error: csv.Error) -> str:
  """What is wrong with a row, in other words than the parser's."""
  text = str(error)
  if 'field limit' in text:
    return (
      f'a field is longer than {csv.field_size_limit()} characters: is a quote '
      'missing?'
    )
  if 'unexpected end' in text:
    return 'a quote opens in this row and is never closed: close it or drop it'
  return (
    f'{text}: a field that begins with a quote must end with one, and quotes '
    'inside it are written twice'
  )


def _check_fields(
  path: Path, line: int, fields: list[str], columns: list[str], delimiter: str
) -> None:
  where = f'{printable(path)}, line {line}'
  if any('\0' in field for field in fields):
    raise UsageError(f'{where}: holds a NUL: save the file as CSV, UTF-8')
  if len(fields) == len(columns):
    return
  name = 'tab' if delimiter == '\t' else delimiter
  advice = (
    f"put a caption that holds a '{name}' in quotes, without a blank before "
    'the first quote'
    if len(fields) > len(columns)
    else 'put a caption that holds a line break in quotes'
  )
  raise UsageError(
    f'{where}: {len(fields)} column(s), the first line names {len(columns)}: '
    f'{advice}'
  )


def _check_swallowed(
  path: Path, row: _CaptionRow, files: _Names, delimiter: str
) -> None:
  """Refuses a caption that holds the rows of other files."""
  for line in row.caption.splitlines()[1:]:
    name, found, _ = line.partition(delimiter)
    if found and files.find(name):
      raise UsageError(
        f'{printable(path)}, line {row.line}: a quote that opens in this row '
        f"closes only after the row of '{printable(name)}': close it earlier, "
        'or leave it out'
      )
