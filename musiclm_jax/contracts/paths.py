"""Paths: what a user wrote -> a Path, and whether it can be written.

A path means what it means in a shell: `~` and `~user` are home folders.
`file://` is understood; buckets and other schemes are not, since locks, logs
and atomic files need a file system: they are refused instead of becoming a
folder of that name.
"""

import os
import re
import urllib.parse
from pathlib import Path

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError

_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')


def local(text: str | os.PathLike) -> Path:
  """Turns what a user wrote for a path into a Path.

  Args:
    text: A path, `~/…`, `~user/…` or `file:///…`.

  Raises:
    UsageError: If it is empty, holds a zero byte, names a user who is not
      there, or has another scheme.
  """
  text = os.fspath(text)
  if scheme := _SCHEME.match(text):
    if scheme[1].lower() != 'file':
      raise UsageError(
        f"'{text}': {scheme[1]}:// is not supported, only paths and file://: "
        'mount it, or copy it to this machine and give that path'
      )
    text = _of_file_url(text)
  if not text or '\0' in text:
    raise UsageError(f"'{text}' is no path: name a file or a folder")
  if not text.startswith('~'):
    return Path(text)
  expanded = os.path.expanduser(text)
  if expanded == text:
    name = text.split('/', 1)[0]
    raise UsageError(
      f"'{text}': the home folder {name} is not known: write the whole path, "
      f'or ./{name} for a name that begins with ~'
    )
  return Path(expanded)


def _of_file_url(text: str) -> str:
  host, slash, rest = text.split('://', 1)[1].partition('/')
  if host.lower() not in ('', 'localhost') or not slash:
    raise UsageError(
      f"'{text}' names another machine: write file:///PATH, with three slashes"
    )
  return os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode('/' + rest)))


def check_file(path: Path) -> None:
  """Checks that a file can be written at `path`; leaves nothing there.

  Raises:
    UsageError: If it is a folder, its name is too long, or its folder cannot
      be made or written.
  """
  check_name(path)
  if path.is_dir():
    raise UsageError(f"cannot write '{path}': it is a folder")
  check_folder(path.parent, path)


def check_folder(folder: Path, path: Path | None = None) -> None:
  """Checks that `folder` can be made and written; leaves nothing there.

  Args:
    folder: What is looked at.
    path: What shall be written into it, for the message.

  Raises:
    UsageError: If not.
  """
  check_name(folder)
  try:
    atomic_file.probe(standing(folder))
  except OSError as error:
    raise UsageError(
      f"cannot write '{path or folder}' ({error.strerror or error}): choose "
      'another place'
    ) from error


def check_name(path: Path) -> None:
  """Checks that no part of `path` is longer than its file system allows.

  Raises:
    UsageError: Naming the part.
  """
  limit = name_limit(path)
  for part in path.absolute().parts:
    if (size := len(os.fsencode(part))) > limit:
      raise UsageError(
        f"the name '{part[:20]}…' has {size} bytes, and a name may have "
        f'{limit}: choose a shorter one'
      )


def name_limit(path: Path) -> int:
  """Bytes that a name may have where `path` is or will be."""
  try:
    return os.pathconf(standing(path), 'PC_NAME_MAX')
  except (OSError, ValueError, AttributeError):
    return 255


def standing(path: Path) -> Path:
  """`path` itself, or the nearest folder above it that exists."""
  path = path.absolute()
  return next(p for p in (path, *path.parents) if os.path.exists(p))
