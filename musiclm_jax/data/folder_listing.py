"""Lists a folder that a user names: files of some kinds, and all the rest.

Links to folders are followed after all real folders, and no folder is entered
twice: loops end, and a file keeps the name that it has without the link.
"""

import collections
import dataclasses
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable

_APPLE_DOUBLE = b'\x00\x05\x16\x07'  # what macOS knows of the file ._NAME


@dataclasses.dataclass(frozen=True)
class Listing:
  """A folder's content at any depth; names are relative to it, with `/`.

  Attributes:
    files: (name, size in bytes, time of change in ns) of the kinds asked for,
      sorted.
    unusable: (name, reason) of entries of these kinds that are no files.
    closed: (name, reason) of folders that cannot be entered.
    others: (suffix in lower case, number) of files of other kinds, sorted.
    companions: Files in which macOS keeps what it knows of others.
    unread: Names of files of kinds that are related and not read.
  """

  files: tuple[tuple[str, int, int], ...]
  unusable: tuple[tuple[str, str], ...] = ()
  closed: tuple[tuple[str, str], ...] = ()
  others: tuple[tuple[str, int], ...] = ()
  companions: int = 0
  unread: tuple[str, ...] = ()


def list_files(
  folder: str | os.PathLike,
  suffixes: Collection[str],
  unread: Collection[str] = (),
) -> Listing:
  """Lists a folder.

  Args:
    folder: Searched at any depth.
    suffixes: Of the kinds asked for, in lower case and with the dot.
    unread: Of other kinds whose files are named.

  Raises:
    UsageError: If there is no such folder, or it cannot be read.
  """
  check_folder(folder)
  files, unusable, closed, related = [], [], [], []
  others: collections.Counter[str] = collections.Counter()
  companions = 0
  for directory, names in _directories(Path(folder), closed):
    for name in names:
      path = os.path.join(folder, directory, name)
      suffix = os.path.splitext(name)[1].lower()
      relative = f'{directory}/{name}' if directory else name
      if suffix not in suffixes:
        others[suffix] += 1
        related += [relative] if suffix in unread else []
      elif isinstance(status := _status(path), str):
        unusable.append((relative, status))
      elif name.startswith('._') and _begins_with(path, _APPLE_DOUBLE):
        companions += 1
      else:
        files.append((relative, status.st_size, status.st_mtime_ns))
  return Listing(
    tuple(sorted(files)),
    tuple(sorted(unusable)),
    tuple(sorted(closed)),
    tuple(sorted(others.items())),
    companions,
    tuple(sorted(related)),
  )


def some(reasons: Sequence[tuple[str, str]]) -> str:
  """Names the first few of what was skipped, each with its reason."""
  return first_few(
    [f'{printable(name)} ({printable(reason)})' for name, reason in reasons]
  )


def why_none(listing: Listing, unread: str = '') -> str:
  """Says what a folder without a file of the kinds asked for holds instead.

  Args:
    listing: Of the folder.
    unread: What `others` holds of related kinds, said before the rest.
  """
  causes = []
  if listing.closed:
    causes.append(f'folders that cannot be entered: {some(listing.closed)}')
  if listing.unusable:
    causes.append(some(listing.unusable))
  if listing.companions:
    causes.append(f'what macOS keeps about other files: {listing.companions}')
  count = sum(number for _, number in listing.others)
  if unread:
    causes.append(unread)
  elif count:
    causes.append(f'files of other kinds: {count}')
  return '; '.join(causes) or 'it is empty'


def check_folder(folder: str | os.PathLike) -> None:
  """Looks whether a folder can be listed.

  Raises:
    UsageError: If not, with the cause.
  """
  shown = printable(folder)
  try:
    with os.scandir(folder):
      return
  except FileNotFoundError as error:
    raise UsageError(f"there is no folder '{shown}'") from error
  except NotADirectoryError as error:
    raise UsageError(f"'{shown}' is a file: give a folder") from error
  except OSError as error:
    raise UsageError(
      f"folder '{shown}' cannot be read ({error.strerror})"
    ) from error


def _directories(
  root: Path, closed: list[tuple[str, str]]
) -> Iterator[tuple[str, list[str]]]:
  """Yields (relative folder, names of what is in it), links to folders last.

  Folders that cannot be entered are added to `closed`.
  """
  entered = set()
  pending, links = [''], []
  while pending or links:
    if not pending:
      links.sort()
      pending.append(links.pop(0))
    directory = pending.pop()
    path = root / directory if directory else root
    try:
      status = path.stat()
      if (status.st_dev, status.st_ino) in entered:
        continue
      with os.scandir(path) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
      closed.append((directory, error.strerror or type(error).__name__))
      continue
    entered.add((status.st_dev, status.st_ino))
    names = []
    for entry in found:
      inside = f'{directory}/{entry.name}' if directory else entry.name
      if not _is_folder(entry):
        names.append(entry.name)
      elif entry.is_symlink():
        links.append(inside)
      else:
        pending.append(inside)
    yield directory, names


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:
    return False


def _status(path: str) -> os.stat_result | str:
  """Looks at a file; a reason if it is none."""
  try:
    status = os.stat(path)
  except FileNotFoundError:
    return 'a link to nothing'
  except OSError as error:
    return error.strerror or type(error).__name__
  return status if stat.S_ISREG(status.st_mode) else 'no regular file'


def _begins_with(path: str, magic: bytes) -> bool:
  try:
    with open(path, 'rb') as file:
      return file.read(len(magic)) == magic
  except OSError:
    return False
