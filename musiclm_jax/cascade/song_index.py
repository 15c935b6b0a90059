"""An index of a user's songs: folder of sound files -> one embedding a song.

<folder>/.musiclm_index.npz   names, sizes, mtimes_ns [N], embeddings [N, D],
                              network: what made them

Only what is new or changed since the last time is heard.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.cascade.windows import chunks
from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import DAMAGED_NPZ
from musiclm_jax.data.audio_folder import AudioFolder

FILE = '.musiclm_index.npz'
_REPORT_SECONDS = 10.0
_SAVE_SECONDS = 60.0  # an interrupted run loses no more than that
_FIELDS = ('names', 'sizes', 'mtimes_ns', 'embeddings', 'network')

Stamp = tuple[int, int]  # size in bytes, time of change in ns
Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Hearing:
  """How songs become embeddings.

  Attributes:
    network: Names everything that an embedding depends on; an index of
      another one is made again.
    embed: Windows float32 [batch_size, window_samples] -> [batch_size, D],
      each row for itself.
    window_samples: What `embed` hears at once, at the folder's rate.
    batch_size: Windows of one call.
  """

  network: str
  embed: Callable[[np.ndarray], np.ndarray]
  window_samples: int
  batch_size: int = 8


@dataclasses.dataclass(frozen=True)
class Song:
  """One file as it was when it was heard.

  Attributes:
    stamp: Size and time of change.
    embedding: Mean over its windows, float32 [D].
  """

  stamp: Stamp
  embedding: np.ndarray


def update(
  folder: AudioFolder, path: Path, hearing: Hearing, report: Report
) -> dict[str, Song]:
  """Brings the index of a folder up to date and writes it.

  Where it cannot be written, that is reported and the result is the same.

  Args:
    folder: All of its songs.
    path: The same folder, which keeps the index.
    hearing: Embeds what is new or changed.
    report: Takes lines for the user.

  Returns:
    Name -> song, of the files that are there now.
  """
  names = [folder.piece_id(i) for i in range(len(folder))]
  stamps = {name: _stamp(path / name) for name in names}
  known = _read(path / FILE, hearing.network, report)
  songs = {
    name: known[name]
    for name, stamp in stamps.items()
    if name in known and known[name].stamp == stamp
  }
  wanted = [i for i, name in enumerate(names) if name not in songs]
  if not wanted and songs.keys() == known.keys():
    return songs
  saved = time.monotonic()
  for i, embedding in _hear(folder, wanted, hearing, report):
    songs[names[i]] = Song(stamps[names[i]], embedding)
    if time.monotonic() - saved > _SAVE_SECONDS:
      saved = time.monotonic()
      with contextlib.suppress(OSError):  # reported at the end
        _write(path / FILE, songs, hearing.network)
  try:
    _write(path / FILE, songs, hearing.network)
  except OSError as error:
    report(
      f"the index '{path / FILE}' cannot be written ({error.strerror}): the "
      'songs will be heard again the next time'
    )
  gone = len(known.keys() - stamps.keys())
  report(
    f'index of {len(songs)} songs: {len(wanted)} heard, '
    f'{len(songs) - len(wanted)} known, {gone} gone'
  )
  return songs


def _stamp(path: Path) -> Stamp:
  status = path.stat()
  return status.st_size, status.st_mtime_ns


def _hear(
  folder: AudioFolder, wanted: Sequence[int], hearing: Hearing, report: Report
) -> Iterator[tuple[int, np.ndarray]]:
  """Embeds songs window by window, the windows of several in one batch.

  Memory does not grow with the length of a song.

  Yields:
    (number of the song, embedding [D]), in order.
  """
  cuts = {
    i: chunks(folder.num_samples(i), hearing.window_samples) for i in wanted
  }
  clock = _Clock(
    len(wanted),
    sum(map(len, cuts.values())),
    hearing.window_samples / folder.sample_rate,
    report,
  )
  # The last window of a song reaches back, so that each is a whole one.
  windows = (
    (i, cut.start, cut.end - cut.start) for i in wanted for cut in cuts[i]
  )
  sums = dict.fromkeys(wanted, 0.0)
  left = {i: len(cuts[i]) for i in wanted}
  while batch := list(itertools.islice(windows, hearing.batch_size)):
    rows = np.zeros((hearing.batch_size, hearing.window_samples), np.float32)
    for row, (i, start, samples) in zip(rows, batch, strict=False):
      # A song that is shorter than a window is repeated.
      row[:] = np.resize(folder.read(i, start, samples), len(row))
    found = np.asarray(hearing.embed(rows), np.float32)
    finished = []
    for (i, _, _), embedding in zip(batch, found, strict=False):
      sums[i] = sums[i] + embedding
      left[i] -= 1
      if not left[i]:
        finished.append((i, sums.pop(i) / len(cuts[i])))
    clock.tick(len(batch), len(finished))
    yield from finished


class _Clock:
  """Reports how far it is, how fast, and how long it will take."""

  def __init__(
    self, songs: int, windows: int, window_seconds: float, report: Report
  ):
    self._songs, self._windows = songs, windows
    self._window_seconds, self._report = window_seconds, report
    self._songs_done = self._done = self._counted = 0
    self._begun = self._reported = None
    if songs:
      report(
        f'hearing {songs} songs in {windows} windows of {window_seconds:g} s'
      )

  def tick(self, windows: int, songs: int) -> None:
    """Counts a batch; the clock begins after the first, which compiles."""
    self._done += windows
    self._songs_done += songs
    now = time.monotonic()
    if self._begun is None:
      self._begun = self._reported = now
      return
    self._counted += windows
    if now - self._reported < _REPORT_SECONDS:
      return
    self._reported = now
    rate = self._counted / (now - self._begun)
    minutes, seconds = divmod(round((self._windows - self._done) / rate), 60)
    self._report(
      f'heard {self._songs_done}/{self._songs} songs  '
      f'{rate * self._window_seconds:.0f} x real time  '
      f'ETA {minutes}:{seconds:02d}'
    )


def _read(path: Path, network: str, report: Report) -> dict[str, Song]:
  """Reads an index; what cannot be used is reported and empty."""
  if not path.exists():
    return {}
  try:
    with np.load(path, allow_pickle=False) as file:
      names, sizes, times, embeddings, made_by = (file[f] for f in _FIELDS)
    rows = zip(names, sizes, times, embeddings, strict=True)
    songs = {
      str(name): Song((int(size), int(changed)), embedding)
      for name, size, changed, embedding in rows
    }
    whole = embeddings.ndim == 2 and np.isfinite(embeddings).all()
  except DAMAGED_NPZ:
    whole = False
  if not whole:
    report(f"the index '{path}' is damaged: all songs are heard again")
    return {}
  if str(made_by) != network:
    report(
      f"the index '{path}' is of another bundle: all songs are heard again"
    )
    return {}
  return songs


def _write(path: Path, songs: dict[str, Song], network: str) -> None:
  """Writes an index, whole or not at all."""
  rows = sorted(songs.items())
  with atomic_file.atomic_open(path, 'wb') as file:
    np.savez(
      file,
      names=np.array([name for name, _ in rows], dtype=np.str_),
      sizes=np.array([song.stamp[0] for _, song in rows], np.int64),
      mtimes_ns=np.array([song.stamp[1] for _, song in rows], np.int64),
      embeddings=np.stack([song.embedding for _, song in rows]),
      network=np.array(network),
    )
