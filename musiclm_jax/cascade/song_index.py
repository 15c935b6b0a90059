"""An index of a user's songs: folder of sound files -> one embedding a song.

The folder keeps it (`song_index_file`). Only what is new or changed since the
last time is heard, and an interrupted run goes on within a song.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.cascade import song_index_file
from musiclm_jax.cascade.song_index_file import FILE, Report, Song, Songs
from musiclm_jax.cascade.windows import chunks
from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.data.origins import FileStamp

_REPORT_SECONDS = 10.0
_SAVE_SECONDS = 30.0  # an interrupted run loses no more than that


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


def update(
  folder: AudioFolder, path: Path, hearing: Hearing, report: Report
) -> Songs:
  """Brings the index of a folder up to date and writes it.

  Where it cannot be written, that is reported and the result is the same.

  Args:
    folder: All of its songs.
    path: The same folder, which keeps the index.
    hearing: Embeds what is new or changed.
    report: Takes lines for the user.

  Returns:
    Name -> song, of the files that are there now.

  Raises:
    UsageError: If another run is doing the same.
  """
  names = [folder.piece_id(i) for i in range(len(folder))]
  known = song_index_file.read(path / FILE, hearing.network, lambda line: None)
  if _is_current(known, names, path):
    return known
  with ownership.lock(path, 'listening to the songs of'):
    known = song_index_file.read(path / FILE, hearing.network, report)
    songs = _current(known, names, path)
    wanted = [
      i for i, n in enumerate(names) if n not in songs or songs[n].heard
    ]
    _hear_and_save(folder, path, wanted, songs, hearing, report)
  gone = len(known.keys() - set(names))
  heard = sum(names[i] in songs for i in wanted)
  report(
    f'index of {len(songs)} songs: {heard} heard, {len(songs) - heard} known, '
    f'{gone} gone'
  )
  return songs


def _is_current(songs: Songs, names: Sequence[str], path: Path) -> bool:
  """Whether nothing has been touched since all of it was heard."""
  return songs.keys() == set(names) and all(
    song.stamp.is_untouched(path / name) and not song.heard
    for name, song in songs.items()
  )


def _current(known: Songs, names: Sequence[str], path: Path) -> Songs:
  """What is known of the files as they are now."""
  songs = {}
  for name in known.keys() & set(names):
    if stamp := _renewed(known[name].stamp, path / name):
      songs[name] = dataclasses.replace(known[name], stamp=stamp)
  return songs


def _renewed(stamp: FileStamp, path: Path) -> FileStamp | None:
  """See `FileStamp.renewed`; the first version knew size and time alone."""
  if stamp.sha256:
    return stamp.renewed(path)
  now = FileStamp.of(path)
  same = (now.size, now.mtime_ns) == (stamp.size, stamp.mtime_ns)
  return now if same and now.sha256 else None


def _hear_and_save(
  folder: AudioFolder,
  path: Path,
  wanted: Sequence[int],
  songs: Songs,
  hearing: Hearing,
  report: Report,
) -> None:
  """Completes the songs and writes the index, from time to time as well."""
  saved = time.monotonic()
  try:
    for _ in _hear(folder, path, wanted, songs, hearing, report):
      if time.monotonic() - saved > _SAVE_SECONDS:
        saved = time.monotonic()
        with contextlib.suppress(OSError):  # reported at the end
          song_index_file.write(path / FILE, songs, hearing.network)
  except BaseException:
    with contextlib.suppress(OSError):
      song_index_file.write(path / FILE, songs, hearing.network)
    raise
  try:
    song_index_file.write(path / FILE, songs, hearing.network)
  except OSError as error:
    report(
      f"the index '{printable(path / FILE)}' cannot be written "
      f'({error.strerror}): the songs will be heard again the next time'
    )


def _hear(
  folder: AudioFolder,
  path: Path,
  wanted: Sequence[int],
  songs: Songs,
  hearing: Hearing,
  report: Report,
) -> Iterator[None]:
  """Embeds songs window by window, the windows of several in one batch.

  Memory does not grow with the length of a song.

  Yields:
    After each batch, when `songs` has what was heard of it.
  """
  # The last window of a song reaches back, so that each is a whole one.
  cuts = {
    i: chunks(folder.num_samples(i), hearing.window_samples) for i in wanted
  }
  stamps: dict[int, FileStamp] = {}

  def left() -> Iterator[tuple[int, int, int]]:
    """Song, start and length of the windows that are left."""
    for i in wanted:
      name = folder.piece_id(i)
      song = songs.get(name)
      # Before it is read: what changes meanwhile is noticed the next time.
      stamps[i] = song.stamp if song else FileStamp.of(path / name)
      if not stamps[i].sha256:
        report(f'{name}: skipped (it cannot be read any more)')
        continue
      for cut in cuts[i][song.heard if song else 0 :]:
        yield i, cut.start, cut.end - cut.start

  done = sum(songs[n].heard for n in map(folder.piece_id, wanted) if n in songs)
  clock = _Clock(
    len(wanted),
    sum(map(len, cuts.values())) - done,
    hearing.window_samples / folder.sample_rate,
    report,
  )
  windows = left()
  while batch := list(itertools.islice(windows, hearing.batch_size)):
    rows = np.zeros((hearing.batch_size, hearing.window_samples), np.float32)
    for row, (i, start, samples) in zip(rows, batch, strict=False):
      # A song that is shorter than a window is repeated.
      row[:] = np.resize(folder.read(i, start, samples), len(row))
    found = np.asarray(hearing.embed(rows), np.float32)
    finished = 0
    for (i, _, _), embedding in zip(batch, found, strict=False):
      name = folder.piece_id(i)
      song = songs.get(name, Song(stamps[i], 0.0))
      total, heard = song.embedding + embedding, song.heard + 1
      if heard == len(cuts[i]):
        finished += 1
        total, heard = total / len(cuts[i]), 0
      songs[name] = Song(stamps[i], total, heard)
    clock.tick(len(batch), finished)
    yield


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
