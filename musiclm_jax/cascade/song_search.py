"""Search by sentence: a text, a folder of songs -> cosine of each song.

  song [S] -> windows -> MuLan -> mean embedding [D] ┐
  text     -> MuLan   -> embedding [D] ──────────────┴-> cosine, both centred

The folder keeps an index of its songs, FILE. Only what is new or changed since
the last time is embedded, and an interrupted run goes on within a song. Of N
songs the index has names, sizes, mtimes_ns, ctimes_ns, sha256 [N], embeddings
[N, D], `heard` [N] (windows done, where a song is not complete); network:
what made them.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.cascade.inputs import SAMPLE_RATE
from musiclm_jax.cascade.tokenizer import Tokenizer
from musiclm_jax.cascade.windows import chunks
from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import DAMAGED_NPZ, UsageError
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.data.origins import FileStamp

FILE = '.musiclm_index.npz'
_STAMP = ('sizes', 'mtimes_ns', 'ctimes_ns', 'sha256')
_SAVE_SECONDS = 30.0  # an interrupted run loses no more than that

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Song:
  """One file as it was when it was embedded.

  Attributes:
    stamp: Of the file.
    embedding: Mean over its windows, float32 [D]; the sum of those that are
      done, where there are more.
    windows_done: 0 where all are.
  """

  stamp: FileStamp
  embedding: np.ndarray
  windows_done: int = 0


Songs = dict[str, Song]  # by name


@dataclasses.dataclass(frozen=True)
class SongEmbedder:
  """How songs become embeddings.

  Attributes:
    network: Names everything that an embedding depends on; an index of
      another one is made again.
    embed: Windows float32 [batch_size, window_samples] -> [batch_size, D],
      each row for itself.
    window_samples: Of a window, at the folder's rate.
    batch_size: Windows of one call.
  """

  network: str
  embed: Callable[[np.ndarray], np.ndarray]
  window_samples: int
  batch_size: int = 8

  @classmethod
  def of(cls, tokenizer: Tokenizer) -> 'SongEmbedder':
    """Embeds with MuLan, by windows without overlap."""
    mulan = tokenizer.mulan
    return cls(
      network=mulan.identity,
      embed=tokenizer.embed_audio,
      window_samples=round(mulan.model.window_seconds * SAMPLE_RATE),
    )


def rank(
  tokenizer: Tokenizer, text: str, songs: Songs
) -> list[tuple[str, float]]:
  """Ranks songs by how well a sentence fits them, the best first.

  Both are centred by the mean of their modality, as where MuLan's tokens are
  made: otherwise the offset between the modalities is most of the cosine.

  Args:
    tokenizer: With MuLan and its quantizer.
    text: The sentence.
    songs: See `update_index`.

  Returns:
    (name, cosine in [-1, 1]).
  """
  names = list(songs)
  audio = np.stack([songs[name].embedding for name in names])
  wanted = tokenizer.centre(tokenizer.embed_text([text]), 'text')[0]
  cosines = tokenizer.centre(audio, 'audio') @ wanted
  order = np.argsort(-cosines, kind='stable')
  return [(names[k], float(cosines[k])) for k in order]


def update_index(
  folder: AudioFolder,
  path: Path,
  embedder: SongEmbedder,
  report: Report,
  progress: ProgressCallback | None = None,
) -> Songs:
  """Brings the index of a folder up to date and writes it.

  Where it cannot be written, that is reported and the result is the same.

  Args:
    folder: All of its songs.
    path: The same folder, which keeps the index.
    embedder: Embeds what is new or changed.
    report: Takes lines for the user.
    progress: Takes events, counted in windows.

  Returns:
    Name -> song, of the files that are there now.

  Raises:
    UsageError: If another run is doing the same, or a file of another kind is
      where the index would be.
  """
  _check_kind(path / FILE)
  names = [folder.piece_id(i) for i in range(len(folder))]
  known = read_index(path / FILE, embedder.network, lambda line: None)
  if _is_current(known, names, path):
    return known
  with ownership.lock(path, 'listening to the songs of'):
    known = read_index(path / FILE, embedder.network, report)
    songs = _current(known, names, path)
    wanted = [
      i for i, n in enumerate(names) if n not in songs or songs[n].windows_done
    ]
    steps = _embed(folder, path, wanted, songs, embedder, report, progress)
    _save_meanwhile(steps, path / FILE, songs, embedder.network, report)
  gone = len(known.keys() - set(names))
  new = sum(names[i] in songs for i in wanted)
  report(
    f'index of {len(songs)} songs: {new} embedded, {len(songs) - new} known, '
    f'{gone} gone'
  )
  return songs


def _is_current(songs: Songs, names: Sequence[str], path: Path) -> bool:
  """Whether nothing has been touched since all of it was embedded."""
  return songs.keys() == set(names) and all(
    song.stamp.is_untouched(path / name) and not song.windows_done
    for name, song in songs.items()
  )


def _current(known: Songs, names: Sequence[str], path: Path) -> Songs:
  """What is known of the files as they are now."""
  songs = {}
  for name in known.keys() & set(names):
    if stamp := known[name].stamp.renewed(path / name):
      songs[name] = dataclasses.replace(known[name], stamp=stamp)
  return songs


def _save_meanwhile(
  steps: Iterator[None], path: Path, songs: Songs, network: str, report: Report
) -> None:
  """Takes all steps and writes the index, from time to time as well."""
  saved = time.monotonic()
  try:
    for _ in steps:
      if time.monotonic() - saved > _SAVE_SECONDS:
        saved = time.monotonic()
        with contextlib.suppress(OSError):  # reported at the end
          write_index(path, songs, network)
  except BaseException:
    with contextlib.suppress(OSError):
      write_index(path, songs, network)
    raise
  try:
    write_index(path, songs, network)
  except OSError as error:
    report(
      f"the index '{printable(path)}' cannot be written ({error.strerror}): "
      'the songs will be embedded again the next time'
    )


def _embed(
  folder: AudioFolder,
  path: Path,
  wanted: Sequence[int],
  songs: Songs,
  embedder: SongEmbedder,
  report: Report,
  progress: ProgressCallback | None,
) -> Iterator[None]:
  """Embeds songs window by window, the windows of several in one batch.

  Memory does not grow with the length of a song.

  Yields:
    After each batch, when `songs` has what is done of it.
  """
  if not wanted:
    return
  # The last window of a song reaches back, so that each is a whole one.
  cuts = {
    i: chunks(folder.num_samples(i), embedder.window_samples) for i in wanted
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
      for cut in cuts[i][song.windows_done if song else 0 :]:
        yield i, cut.start, cut.end - cut.start

  done = sum(
    songs[n].windows_done for n in map(folder.piece_id, wanted) if n in songs
  )
  total = sum(map(len, cuts.values()))
  meter = Meter(f'embedding {len(wanted)} songs', total, 'windows', progress)
  meter.advance(done, skipped=True)
  windows = left()
  while batch := list(itertools.islice(windows, embedder.batch_size)):
    rows = np.zeros((embedder.batch_size, embedder.window_samples), np.float32)
    for row, (i, start, samples) in zip(rows, batch, strict=False):
      # A song that is shorter than a window is repeated.
      row[:] = np.resize(folder.read(i, start, samples), len(row))
    found = np.asarray(embedder.embed(rows), np.float32)
    for (i, _, _), embedding in zip(batch, found, strict=False):
      name = folder.piece_id(i)
      song = songs.get(name, Song(stamps[i], 0.0))
      summed, done = song.embedding + embedding, song.windows_done + 1
      if done == len(cuts[i]):
        summed, done = summed / done, 0
      songs[name] = Song(stamps[i], summed, done)
    meter.advance(len(batch))
    yield


def _check_kind(path: Path) -> None:
  """Refuses to replace a file that is no archive, damaged or not."""
  head = b''
  if path.is_file():
    with path.open('rb') as file:
      head = file.read(2)
  if head not in (b'', b'PK'):
    raise UsageError(
      f"'{path}' is no index of search and is not replaced: move it away"
    )


def read_index(path: Path, network: str, report: Report) -> Songs:
  """Reads an index; what cannot be used is reported and empty."""
  if not path.exists():
    return {}
  shown = printable(path)
  try:
    with np.load(path, allow_pickle=False) as file:
      made_by, embeddings = str(file['network']), file['embeddings']
      rows = zip(
        file['names'],
        *(file[column].tolist() for column in _STAMP),
        embeddings,
        file['heard'],
        strict=True,
      )
      songs = {
        str(name): Song(FileStamp(*stamp), embedding, int(done))
        for name, *stamp, embedding, done in rows
      }
    whole = embeddings.ndim == 2 and np.isfinite(embeddings).all()
  except DAMAGED_NPZ:
    whole = False
  if not whole:
    report(f"the index '{shown}' is damaged: all songs are embedded again")
    return {}
  if made_by != network:
    report(
      f"the index '{shown}' is of another bundle: all songs are embedded again"
    )
    return {}
  return songs


def write_index(path: Path, songs: Songs, network: str) -> None:
  """Writes an index, whole or not at all."""
  if not songs:
    return
  names = sorted(songs)
  stamps = [songs[name].stamp for name in names]
  with atomic_file.atomic_open(path, 'wb') as file:
    np.savez(
      file,
      names=np.array(names, dtype=np.str_),
      **{
        column: np.array(values)
        for column, values in zip(
          _STAMP,
          zip(*map(dataclasses.astuple, stamps), strict=True),
          strict=True,
        )
      },
      embeddings=np.stack([songs[name].embedding for name in names]),
      heard=np.array([songs[name].windows_done for name in names], np.int64),
      network=np.array(network),
    )
