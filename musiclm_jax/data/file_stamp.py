"""What a file was when it was read: path -> size, times, hash of its content.

Size and times are looked at first, since they cost nothing; the content is
hashed where a time differs. The time of the last change of the entry (ctime)
is among them: who replaces a file and sets its time back cannot set that.
"""

import dataclasses
import hashlib
import os


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
