"""What fine-tuning has changed, measured on songs that were not trained on.

records of songs -> nats a token of each song, by a language model
clips of songs -> MuLan tokens -> music of each bundle -> embeddings ->
kernel distances to the songs, and their difference on the same resamples
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import soxr

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.kept_parts import Keep
from musiclm_jax.contracts.progress import ProgressCallback
from musiclm_jax.data.sources import Source
from musiclm_jax.data.token_store import TokenRecord, TokenStore
from musiclm_jax.evaluation.embedders import Embedder
from musiclm_jax.metrics import bootstrap, kad
from musiclm_jax.metrics.bootstrap import Interval
from musiclm_jax.token_lm.language_model import LanguageModel
from musiclm_jax.token_lm.layout import Layout

MAX_RECORDS = 8  # of a song, whose tokens are scored
MIN_SONGS = 4  # that are resampled; of fewer their clips are
BATCH_SIZE = 16  # windows that are scored, and clips that are made, at once


@dataclasses.dataclass(frozen=True)
class SongClip:
  """A stretch of a song that was not trained on.

  Attributes:
    song: Its name.
    waveform: float32 [S] at 24 kHz.
    mulan: MuLan tokens of the record that it begins with, int [12].
  """

  song: str
  waveform: np.ndarray
  mulan: np.ndarray


@dataclasses.dataclass(frozen=True)
class Distances:
  """Kernel distances of two bundles' music to the same clips.

  Attributes:
    before: Of the first, with bounds.
    after: Of the second, with bounds.
    difference: Of the second less that of the first, on the same resamples.
    unit: What was resampled: `songs` or `clips`.
    num_units: How many there are.
  """

  before: Interval
  after: Interval
  difference: Interval
  unit: str
  num_units: int


def read_songs(tokens: Path, split: str) -> dict[str, list[TokenRecord]]:
  """Reads tokens of songs, spread over each.

  Args:
    tokens: Folder of a token store.
    split: Whose songs.

  Returns:
    Name of the song -> up to `MAX_RECORDS` records of it.
  """
  songs: dict[str, list[TokenRecord]] = {}
  store = TokenStore(tokens, split)
  for record in map(store.record, range(len(store))):
    songs.setdefault(record.piece_id, []).append(record)
  return {name: _spread(found, MAX_RECORDS) for name, found in songs.items()}


def read_clips(
  songs: Mapping[str, Sequence[TokenRecord]],
  sources: Sequence[Source],
  *,
  count: int,
  seconds: float,
) -> list[SongClip]:
  """Reads clips, as many of each song, or one more of the first ones.

  Args:
    songs: Of `read_songs`.
    sources: Splits that hold these songs.
    count: Of the clips, at most.
    seconds: Of each; where a song ends before, silence follows.
  """
  places = {
    source.piece_id(i): (source, i)
    for source in sources
    for i in range(len(source))
  }
  clips = []
  for number, (name, records) in enumerate(songs.items()):
    source, index = places[name]
    quota = count // len(songs) + (number < count % len(songs))
    for record in _spread(records, quota):
      start = round(record.start_seconds * SAMPLE_RATE)
      waveform = source.read(index, start, round(seconds * SAMPLE_RATE))
      clips.append(SongClip(name, waveform, record.mulan))
  return clips


def song_losses(
  network: Network, songs: Mapping[str, Sequence[TokenRecord]]
) -> dict[str, float]:
  """Scores songs by a language model, with their own complete conditioning.

  Args:
    network: Of the language model.
    songs: Of `read_songs`.

  Returns:
    Name of the song -> mean nats a token.
  """
  windows, names = [], []
  for name, records in songs.items():
    for record in records:
      found = list(_windows(record, network.model.layout))
      windows += found
      names += [name] * len(found)
  nll, losses = _scorer(network.model), []
  for first in range(0, len(windows), BATCH_SIZE):
    rows = windows[first : first + BATCH_SIZE]
    # One shape, one program: what is missing repeats the last.
    filled = rows + rows[-1:] * (BATCH_SIZE - len(rows))
    batch = {
      stream: np.stack([w[stream] for w in filled]) for stream in rows[0]
    }
    found = nll(network.params, network.collections, batch)
    losses += np.asarray(found).mean(axis=1)[: len(rows)].tolist()
  means, order = bootstrap.unit_means(losses, names)
  return dict(zip(order, means.tolist(), strict=True))


@functools.lru_cache(maxsize=8)
def _scorer(model: LanguageModel) -> Callable[..., jax.Array]:
  """The NLL of a language model, compiled once for all weights of it."""
  return jax.jit(model.nll)


def _windows(
  record: TokenRecord, layout: Layout
) -> Iterator[dict[str, np.ndarray]]:
  """Crops of a record, as the language model reads them, one after another."""
  timed = [s for s in layout.segments if s.frame_rate]
  slowest = min(segment.frame_rate for segment in timed)
  predicted = layout.predicted
  crop = predicted.num_frames / predicted.frame_rate
  ticks = math.ceil(crop * slowest - 1e-6)
  last = math.floor((record.crop_seconds - crop) * slowest + 1e-6)
  for tick in range(0, last + 1, ticks):
    window = {'mulan': record.mulan}
    for segment in timed:
      first = round(tick / slowest * segment.frame_rate)
      codes = getattr(record, segment.stream)
      window[segment.stream] = codes[first : first + segment.num_frames]
    yield window


def make_music(
  model: MusicLM,
  mulan: np.ndarray,
  *,
  seconds: float,
  seed: int,
  keep: Keep,
  name: str = '',
  mulan_levels: int | None = None,
  progress: ProgressCallback | None = None,
) -> np.ndarray:
  """Makes a clip for each row of MuLan tokens of audio.

  Args:
    model: The bundle.
    mulan: int [B, 12].
    seconds: Of each clip.
    seed: The k-th `BATCH_SIZE` clips are made with `seed + k`.
    keep: Keeps what is finished.
    name: Of the bundle, for what is kept of several.
    mulan_levels: Of these tokens that are read; None: all, as those of audio
      mean what the models have learned.
    progress: Takes events of each stage.

  Returns:
    float32 [B, S] at 24 kHz.
  """
  if mulan_levels is None:
    mulan_levels = model.bundle.contract.streams['mulan'].num_levels
  generator, made = Generator(model.networks), []
  for number, first in enumerate(range(0, len(mulan), BATCH_SIZE)):
    rows = mulan[first : first + BATCH_SIZE]
    waveform, _ = generator.generate(
      Conditioning(rows),
      seconds=seconds,
      seed=(seed + number) % 2**32,
      sampling=model.sampling.changed({'mulan_levels': mulan_levels}),
      keep=_named(keep, f'{name} {number}'),
      progress=progress,
    )
    made.append(waveform)
  return np.concatenate(made)


def _named(keep: Keep, name: str) -> Keep:
  """Lets parts of several calls be kept in one place."""
  return lambda part, make: keep(f'{name} {part}', make)


def distances(
  embedder: Embedder,
  clips: Sequence[SongClip],
  before: np.ndarray,
  after: np.ndarray,
  seed: int = 0,
) -> Distances:
  """Compares music of two bundles with clips, by KAD.

  Pairs of windows of one song are left out, or of one clip where there are too
  few songs: bounds are then over clips of just these songs.

  Args:
    embedder: Of the windows.
    clips: Two or more.
    before: float32 [B, S] at 24 kHz, made for each clip by the first bundle.
    after: The same by the second.
    seed: Of the resampling.

  Raises:
    ValueError: If there is nothing to compare; see `kad.paired_distances`.
  """
  sets, counts = [], []
  for waveforms in ([clip.waveform for clip in clips], before, after):
    sounds = (
      soxr.resample(
        np.asarray(x, np.float32), SAMPLE_RATE, embedder.sample_rate
      )
      for x in waveforms
    )
    found = list(embedder.embed_all(sounds))
    counts = [len(rows) for rows in found]
    sets.append(np.concatenate(found))
  songs = list(dict.fromkeys(clip.song for clip in clips))
  unit, units = 'clips', np.arange(len(clips))
  if len(songs) >= MIN_SONGS:
    unit, units = 'songs', np.array([songs.index(c.song) for c in clips])
  values, resampled = kad.paired_distances(
    sets[0], sets[1:], np.repeat(units, counts), seed=seed
  )
  resampled = resampled[np.isfinite(resampled).all(axis=1)]
  columns = resampled.T
  return Distances(
    bootstrap.bounds(values[0], columns[0]),
    bootstrap.bounds(values[1], columns[1]),
    bootstrap.bounds(values[1] - values[0], columns[1] - columns[0]),
    unit,
    len(set(units.tolist())),
  )


def _spread(rows: Sequence, count: int) -> list:
  """Takes so many of a sequence, from its beginning to its end."""
  places = np.linspace(0, len(rows) - 1, min(len(rows), count))
  return [rows[round(place)] for place in places]
