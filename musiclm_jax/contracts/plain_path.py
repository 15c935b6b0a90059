"""Names for folders whose own names libraries do not take as they stand.

etils reads `[`, `*` and `?` as patterns and `/s3/…` as a bucket, TensorStore
reads `\\` as a separator, and C++ and Rust take no name that is not Unicode.
Such a folder is given to them as a link that stands for it.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from musiclm_jax.contracts.errors import UsageError

_PATTERNS = set('[]*?\\')
_BUCKETS = ('gs', 's3', 'az', 'hf')


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
  folder = Path(tempfile.gettempdir()) / f'musiclm_jax-{os.getuid()}'
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  if folder.is_symlink() or folder.stat().st_uid != os.getuid():
    return Path(tempfile.mkdtemp(prefix='musiclm_jax-'))
  return folder
