"""Paths: what a user wrote -> a Path, and whether it can be written.

A path means what it means in a shell: `~` and `~user` are home folders.
`file://` is understood; buckets and other schemes are not, since locks, logs
and atomic files need a file system: they are refused instead of becoming a
folder of that name.

etils reads `[`, `*` and `?` as patterns and `/s3/…` as a bucket, TensorStore
reads `\\` as a separator, and C++ and Rust take no name that is not Unicode.
A folder of such a name is given to them as a link that stands for it (`plain`).
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import urllib.parse
from pathlib import Path

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import size

_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
_PATTERNS = set('[]*?\\')
_BUCKETS = ('gs', 's3', 'az', 'hf')


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
    if (length := len(os.fsencode(part))) > limit:
      raise UsageError(
        f"the name '{part[:20]}…' has {length} bytes, and a name may have "
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


def check_room(path: Path, count: float, what: str) -> None:
  """Checks that `count` bytes fit where `path` is or will be.

  Args:
    path: Of the file or folder.
    count: Bytes that will be written.
    what: Names them.

  Raises:
    UsageError: If they do not fit.
  """
  try:
    free = shutil.disk_usage(standing(path)).free
  except OSError:
    return  # a file system that does not say
  if count > free:
    raise UsageError(
      f"{what} need {size(count)} at '{path}', where {size(free)} are free: "
      'make room or choose another place'
    )


def name_to_bytes(name: str) -> bytes:
  """Encodes a name, the same on every machine; ordinary ones as UTF-8."""
  return name.encode('utf-8', 'surrogateescape')


def name_from_bytes(data: bytes) -> str:
  """Undoes `name_to_bytes`."""
  return data.decode('utf-8', 'surrogateescape')


def plain(folder: str | os.PathLike) -> Path:
  """Another name of `folder` that every library reads as it stands.

  Args:
    folder: It need not exist yet.

  Returns:
    The folder itself, made absolute, where its name is plain; else a link in
    the scratch folder, the same one every time.

  Raises:
    UsageError: If such a link cannot be made.
  """
  text = os.path.abspath(folder)
  if is_plain(text):
    return Path(text)
  digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
  try:
    link = scratch() / f'folder-{digest}'
    with contextlib.suppress(FileExistsError):
      link.symlink_to(text)
    if is_plain(str(link)) and os.readlink(link) == text:
      return link
    reason = f"'{link}' does not lead there"
  except OSError as error:
    reason = str(error)
  raise UsageError(
    f"'{text}' holds characters that libraries read as patterns, and no plain "
    f'name for it can be made ({reason}): choose a folder with a plain name'
  )


def plain_file(path: str | os.PathLike) -> Path:
  """Another name of a file, or of a folder in a folder; see `plain`."""
  path = Path(path)
  return plain(path.parent) / path.name


def is_plain(text: str) -> bool:
  """Whether no library reads anything into an absolute path."""
  first = text.split('/', 2)[1] if text.startswith('/') else ''
  plain_letters = text.isprintable() and not _PATTERNS & set(text)
  return plain_letters and first not in _BUCKETS


def scratch() -> Path:
  """This user's own folder for temporary files, which others cannot enter.

  Raises:
    OSError: If it cannot be made.
  """
  # Where users have no numbers, temporary folders are of one user.
  user = os.getuid() if hasattr(os, 'getuid') else 0
  folder = Path(tempfile.gettempdir()) / f'musiclm_jax-{user}'
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  if folder.is_symlink() or folder.stat().st_uid != user:
    return Path(tempfile.mkdtemp(prefix='musiclm_jax-'))
  return folder
