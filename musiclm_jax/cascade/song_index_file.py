"""The file that keeps an index of songs: read if it can be used, written whole.

Of N songs: names, sizes, mtimes_ns, ctimes_ns, sha256 [N], embeddings [N, D],
heard [N]; network: what made them. The first version had no ctimes_ns, sha256
and heard.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import DAMAGED_NPZ
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data.origins import FileStamp

FILE = '.musiclm_index.npz'
_FIELDS = ('names', 'sizes', 'mtimes_ns', 'embeddings', 'network')
_LATER_FIELDS = ('ctimes_ns', 'sha256', 'heard')

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Song:
  """One file as it was when it was heard.

  Attributes:
    stamp: Of the file.
    embedding: Mean over its windows, float32 [D]; the sum of those that have
      been heard, where there are more.
    heard: Windows that have been heard, 0 where all have.
  """

  stamp: FileStamp
  embedding: np.ndarray
  heard: int = 0


Songs = dict[str, Song]  # by name


def read(path: Path, network: str, report: Report) -> Songs:
  """Reads an index; what cannot be used is reported and empty."""
  if not path.exists():
    return {}
  shown = printable(path)
  try:
    with np.load(path, allow_pickle=False) as file:
      first = all(name not in file for name in _LATER_FIELDS)
      fields = {name: file[name] for name in _FIELDS}
      fields |= {name: file[name] for name in _LATER_FIELDS if not first}
    songs = dict(_rows(fields))
    whole = fields['embeddings'].ndim == 2
    whole = whole and np.isfinite(fields['embeddings']).all()
  except DAMAGED_NPZ:
    whole = False
  if not whole:
    report(f"the index '{shown}' is damaged: all songs are heard again")
    return {}
  if str(fields['network']) != network:
    report(
      f"the index '{shown}' is of another bundle: all songs are heard again"
    )
    return {}
  if first:
    report(
      f"the index '{shown}' is of an earlier version: whether songs were "
      'replaced with their time of change kept is not known'
    )
  return songs


def _rows(fields: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Song]]:
  count = len(fields['names'])
  none = {
    'ctimes_ns': np.zeros(count, int),
    'sha256': [''] * count,
    'heard': np.zeros(count, int),
  }
  fields = none | dict(fields)
  columns = ('sizes', 'mtimes_ns', 'ctimes_ns', 'sha256')
  for name, *stamp, embedding, heard in zip(
    fields['names'],
    *(fields[column] for column in columns),
    fields['embeddings'],
    fields['heard'],
    strict=True,
  ):
    *numbers, sha256 = stamp
    stamp = FileStamp(*map(int, numbers), sha256=str(sha256))
    yield str(name), Song(stamp, embedding, int(heard))


def write(path: Path, songs: Songs, network: str) -> None:
  """Writes an index, whole or not at all."""
  if not songs:
    return
  names = sorted(songs)
  stamps = [songs[name].stamp for name in names]
  with atomic_file.atomic_open(path, 'wb') as file:
    np.savez(
      file,
      names=np.array(names, dtype=np.str_),
      sizes=np.array([stamp.size for stamp in stamps], np.int64),
      mtimes_ns=np.array([stamp.mtime_ns for stamp in stamps], np.int64),
      ctimes_ns=np.array([stamp.ctime_ns for stamp in stamps], np.int64),
      sha256=np.array([stamp.sha256 for stamp in stamps], np.str_),
      embeddings=np.stack([songs[name].embedding for name in names]),
      heard=np.array([songs[name].heard for name in names], np.int64),
      network=np.array(network),
    )
