"""Ownership: marked folders, sealed records, folders locked by one run.

`<folder>/.musiclm_jax` says what the folder is. Only what a kind of folder is
known to hold is ever removed from it, whatever else a user has put there. A
JSON file is ours while its seal, a hash of the rest of it, is whole.
"""

import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from musiclm_jax.contracts import atomic_file, file_lock, paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable

MARK = '.musiclm_jax'
SEAL = 'musiclm_jax_seal'


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of folder.

  Attributes:
    name: `'corpus'`, `'workdir'`, …
    patterns: Of all files that we write into it, as relative POSIX paths; a
      `*` stands for folders too. The first is what describes the folder,
      without which the others mean nothing.
    known: Tells a folder that an earlier version wrote, without a mark.
    alone: Whether a new one begins empty, so that nothing of a user's mixes
      with it.
  """

  name: str
  patterns: tuple[str, ...]
  known: Callable[[Path], bool] = lambda folder: False
  alone: bool = False

  def owns(self, relative: str) -> bool:
    """Whether a file of that name is one of ours."""
    return _is_hidden(relative) or any(
      fnmatch.fnmatchcase(relative, pattern) for pattern in self.patterns
    )

  @property
  def folders(self) -> list[str]:
    """The folders in it that are ours, the inner ones first."""
    above = {p.as_posix() for name in self.patterns for p in Path(name).parents}
    named = {name for name in above - {'.'} if not set('[*?') & set(name)}
    return sorted(named, key=lambda name: -name.count('/'))


def is_ours(folder: Path, kind: Kind) -> bool:
  """Whether we began this folder, as this kind."""
  mark = _mark(folder)
  return mark == kind.name if mark else kind.known(folder)


def begin(folder: Path, kind: Kind) -> None:
  """Marks a folder, which is made where it is missing, as one of ours.

  Raises:
    UsageError: If it holds something of a name that we would write, or cannot
      be written.
  """
  check(folder, kind)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if not _mark(folder):
      (folder / MARK).write_text(json.dumps({'musiclm_jax': kind.name}) + '\n')
  except OSError as error:
    raise UsageError(
      f"{kind.name} '{folder}' cannot be written ({error.strerror}): choose "
      'another folder'
    ) from error


def check(folder: Path, kind: Kind) -> None:
  """Checks that `begin` would not refuse for what the folder holds.

  Raises:
    UsageError: Naming the first thing that is not ours.
  """
  paths.check_name(folder)
  if not folder.is_dir() or is_ours(folder, kind):
    return
  if mark := _mark(folder):
    raise UsageError(
      f"'{folder}' is a {mark} of musiclm_jax, no {kind.name}: choose another "
      'folder'
    )
  if kind.alone:
    taken = [name for name in os.listdir(folder) if not _is_hidden(name)]
  else:
    taken = [name for name in _owned(folder, kind) if not _is_hidden(name)]
    taken = taken or [f for f in kind.folders if (folder / f).exists()]
  if name := min(taken, default=None):
    raise UsageError(
      f"'{folder}' is no {kind.name} of musiclm_jax and holds '{name}', which "
      'stays as it is: choose another folder'
    )


@contextlib.contextmanager
def hold(folder: Path, kind: Kind, doing: str) -> Iterator[None]:
  """Begins a folder and keeps it for this run alone.

  Args:
    folder: What to hold.
    kind: What it is.
    doing: What such a run does there, such as `'training'`.

  Raises:
    UsageError: As `begin`, or if another run holds it.
  """
  begin(folder, kind)
  with open(folder / MARK, 'rb+') as mark:
    _lock(mark.fileno(), folder, f'{doing} in')
    yield


@contextlib.contextmanager
def lock(folder: str | os.PathLike, doing: str) -> Iterator[None]:
  """Holds a folder until the block ends, or the process does.

  The folder itself is locked, so nothing is left in it; one that is missing is
  made, and removed again if it is empty after an error. Where the file system
  locks no folders, no run is refused.

  Args:
    folder: What to hold.
    doing: What is done in it, such as `'writing tokens into'`.

  Raises:
    UsageError: If another run holds it.
    OSError: If it cannot be made.
  """
  folder = Path(folder).absolute()
  made = [path for path in (folder, *folder.parents) if not path.exists()]
  folder.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    _lock(descriptor, folder, doing)
    yield
  except BaseException:
    for path in made:
      with contextlib.suppress(OSError):  # not empty
        path.rmdir()
    raise
  finally:
    os.close(descriptor)


def _lock(descriptor: int, folder: Path, doing: str) -> None:
  try:
    file_lock.lock(descriptor, wait=False)
  except BlockingIOError as error:
    raise UsageError(
      f"another run is {doing} '{printable(folder)}': wait for it, or choose "
      'another folder'
    ) from error
  except OSError:  # this file system locks nothing
    return


def check_ours(folder: Path, kind: Kind) -> None:
  """Checks that everything in a folder is ours.

  Raises:
    UsageError: If it is not ours, or holds something that is not.
  """
  check(folder, kind)
  name = next((f for f in sorted(files(folder)) if not kind.owns(f)), None)
  if name is not None:
    raise UsageError(
      f"'{folder}' holds '{name}', which musiclm_jax did not write: move that "
      'elsewhere or choose another folder'
    )


def clear(folder: Path, kind: Kind) -> None:
  """Removes everything but the mark from a folder of ours.

  Raises:
    UsageError: As `check_ours`.
  """
  check_ours(folder, kind)
  _remove(folder, kind)


def discard(folder: Path, kind: Kind) -> None:
  """Removes our files from a folder and the mark, and nothing else."""
  _remove(folder, kind)
  (folder / MARK).unlink(missing_ok=True)


def _remove(folder: Path, kind: Kind) -> None:
  """Removes files of ours but the mark; what describes the folder goes last."""
  names = [name for name in _owned(folder, kind) if name != MARK]
  for name in sorted(names, key=lambda name: name == kind.patterns[0]):
    (folder / name).unlink(missing_ok=True)
  emptied = {p.as_posix() for name in names for p in Path(name).parents[:-1]}
  inner_first = sorted(emptied, key=lambda name: -name.count('/'))
  for inside in (*inner_first, *kind.folders):
    with contextlib.suppress(OSError):  # something of a user's is in there
      (folder / inside).rmdir()


def object_in(file: Path) -> dict[str, Any]:
  """The JSON object in a file; an empty one where there is none."""
  try:
    found = json.loads(file.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _is_hidden(relative: str) -> bool:
  """Whether it is the mark, or a part file."""
  return relative == MARK or atomic_file.is_part(relative.rsplit('/', 1)[-1])


def _mark(folder: Path) -> str | None:
  """What the mark calls the folder; None without one, or where it is empty."""
  try:
    text = (folder / MARK).read_text()
    return str(json.loads(text)['musiclm_jax']) if text else None
  except OSError:
    return None
  except (ValueError, KeyError, TypeError):
    return f'folder with a strange {MARK}'


def _owned(folder: Path, kind: Kind) -> Iterator[str]:
  """Files of ours, without a look into folders that are not."""
  inside = {name.split('/')[0] for name in kind.folders}
  for top in os.listdir(folder) if folder.is_dir() else ():
    if top in inside:
      names = (f'{top}/{name}' for name in files(folder / top))
    else:
      names = iter([top] if not (folder / top).is_dir() else [])
    yield from filter(kind.owns, names)


def files(folder: Path) -> Iterator[str]:
  """All that is no folder below `folder`, as relative POSIX paths."""
  for inside, folders, files in os.walk(folder):
    links = [name for name in folders if os.path.islink(Path(inside, name))]
    for name in (*files, *links):
      yield Path(inside, name).relative_to(folder).as_posix()


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the hash of everything else in a JSON object."""
  return {**record, SEAL: _hash(record)}


def is_sealed(record: Any) -> bool:
  """Whether we wrote this object and nobody has changed it since."""
  if not isinstance(record, dict) or SEAL not in record:
    return False
  rest = {name: value for name, value in record.items() if name != SEAL}
  return record[SEAL] == _hash(rest)


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
  """Writes a JSON object with its seal, whole or not at all."""
  atomic_file.write_text(path, json.dumps(seal(record), indent=1) + '\n')


def check_sealed(path: Path, command: str, overwrite: bool = False) -> None:
  """Checks that a command's `--json` can be written; leaves nothing there.

  Args:
    path: Of the file.
    command: That would write it.
    overwrite: Whether a file is replaced that we did not write.

  Raises:
    UsageError: If it cannot, or such a file is in the way.
  """
  if not path.parent.is_dir():
    raise UsageError(f'--json={path}: the folder {path.parent} does not exist')
  paths.check_file(path)
  ours = is_sealed(object_in(path))
  if os.path.lexists(path) and not (ours or overwrite):
    raise UsageError(
      f"'{path}' would be replaced, and {command} did not write it, or it was "
      'changed since: choose another --json, or give --overwrite to replace it'
    )


def _hash(record: Mapping[str, Any]) -> str:
  text = json.dumps(record, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
