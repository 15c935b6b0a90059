"""Batches as a pure function of (seed, step): no state to save, any host count.

piece or record -> crop -> {'waveform' [b, S], ...}, b = batch_size / hosts;
`loading.stream` says in what order.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenSpec
from musiclm_jax.data import noise
from musiclm_jax.data.loading import Batch, HostShard, Readers, stream
from musiclm_jax.data.sources import Source
from musiclm_jax.rendered_music import facts, melody_takes


@dataclasses.dataclass(frozen=True)
class CropPlaces:
  """Numbers the stretches of a corpus, as long pieces have more of them.

  Attributes:
    pieces: Piece of each place [count].
    windows: Number of the place within its piece [count].
    totals: Places of each piece [N].
    slacks: Last legal start of each piece, in samples [N].
  """

  pieces: np.ndarray
  windows: np.ndarray
  totals: np.ndarray
  slacks: np.ndarray

  @property
  def count(self) -> int:
    """Places in the corpus."""
    return len(self.pieces)

  def draw(self, place: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draws a start within a place's share of its piece.

    Returns:
      Piece and first sample.
    """
    i = int(self.pieces[place])
    share = (self.windows[place] + rng.random()) / self.totals[i]
    return i, int(share * (self.slacks[i] + 1))


def crop_places(lengths: Sequence[int], crop: int) -> CropPlaces:
  """Divides pieces into places.

  Args:
    lengths: Of the pieces, in samples.
    crop: Of a crop, in samples; a shorter piece has one place, at 0.
  """
  lengths = np.asarray(lengths, np.int64)
  totals = np.maximum(lengths // crop, 1)
  pieces = np.repeat(np.arange(len(lengths)), totals)
  firsts = np.repeat(np.cumsum(totals) - totals, totals)
  windows = np.arange(len(pieces)) - firsts
  return CropPlaces(pieces, windows, totals, np.maximum(lengths - crop, 0))


def crop_starts(
  seconds: float, crop_seconds: float, hop_seconds: float, grid_seconds: float
) -> list[float]:
  """Places the crops of a piece.

  Crops begin every `hop_seconds`; where more than half a crop would be left
  over, one more ends with the piece. A piece of less than half a crop has
  none, one of less than a crop has one (padded by whoever reads it): mostly
  silent crops teach silence.

  Args:
    seconds: Length of the piece.
    crop_seconds: Length of a crop.
    hop_seconds: From start to start.
    grid_seconds: Starts are multiples of this, a common frame of all streams.

  Returns:
    Starts in seconds, rising.
  """
  if seconds < crop_seconds / 2:
    return []
  count = max(int((seconds - crop_seconds) / hop_seconds + 1e-9), 0) + 1
  last = (seconds - crop_seconds) / grid_seconds
  frames = [round(k * hop_seconds / grid_seconds) for k in range(count)]
  if (last - frames[-1]) * grid_seconds > crop_seconds / 2:
    frames.append(int(last + 1e-9))
  return [round(frame * grid_seconds, 6) for frame in frames]


class TextEncoder(Protocol):
  """What batches ask of `data.text.WordPiece`."""

  def encode(self, text: str, length: int) -> np.ndarray:
    """Encodes as int32 [length], padded with 0."""


class TokenRecords(Protocol):
  """What batches ask of `data.token_store.TokenStore`."""

  crop_seconds: float
  specs: Mapping[str, TokenSpec]

  def __len__(self) -> int:
    """Counts the records."""

  def read(self, i: int) -> Mapping[str, np.ndarray]:
    """Reads record `i`."""


def audio_batches(
  source: Source,
  *,
  batch_size: int,
  crop_seconds: float,
  noise_probability: float = 0.0,
  seed: int,
  start_step: int = 0,
  shard: HostShard | None = None,
  readers: Readers | None = None,
) -> Iterator[Batch]:
  """Draws audio crops forever: {'waveform': float32 [b, S]}, no captions.

  An epoch visits every stretch of `crop_seconds` of the corpus once, at a
  jittered place, so that a long piece is drawn more often than a short one. A
  piece shorter than the crop is padded with zeros.

  Args:
    source: The pieces.
    batch_size: Global batch size.
    crop_seconds: Length of a crop.
    noise_probability: Of noise in the input; above 0 batches also hold
      `input` and `denoise`, see `noise.mixed`.
    seed: Of the order and the crops.
    start_step: Global batch with which to begin.
    shard: This host's share of each batch.
    readers: Who reads ahead; None: as suits the machine.

  Raises:
    UsageError: If the batch does not divide among the hosts.
  """
  bounds.check('noise_probability', noise_probability, (0.0, 1.0))
  crop, places = _crops(source, crop_seconds)

  def example(place: int, rng: np.random.Generator) -> Batch:
    i, start = places.draw(place, rng)
    waveform = source.read(i, start, crop)
    if noise_probability:
      return noise.mixed(waveform, rng, noise_probability)
    return {'waveform': waveform}

  return stream(
    example, places.count, batch_size, seed, start_step, shard, readers
  )


def text_audio_batches(
  source: Source,
  tokenizer: TextEncoder,
  *,
  batch_size: int,
  crop_seconds: float,
  text_length: int,
  captions_per_crop: int,
  mark_true_pairs: bool = False,
  seed: int,
  start_step: int = 0,
  shard: HostShard | None = None,
  readers: Readers | None = None,
) -> Iterator[Batch]:
  """Draws crops of the pieces that have a caption, with captions, forever.

  Long pieces are drawn more often, as in `audio_batches`; pieces without a
  caption never.

  Args:
    source: The pieces.
    tokenizer: Text to ids.
    batch_size: Global batch size.
    crop_seconds: Length of a crop.
    text_length: Ids per caption, L.
    captions_per_crop: C, drawn independently.
    mark_true_pairs: Whether batches say which captions are true of which
      crops.
    seed: Of order, crops and captions.
    start_step: Global batch with which to begin.
    shard: This host's share of each batch.
    readers: Who reads ahead; None: as suits the machine.

  Returns:
    Iterator of {'waveform' float32 [b, S], 'text_ids' int32 [b, C, L],
    'group' int32 [b]}; equal groups have equal attributes, hence are not
    negatives of each other. With `mark_true_pairs` also 'piece' int32 [b],
    equal for crops of one piece, and bits of `rendered_music.facts`: 'facts'
    int32 [b, W] of the crops and 'claims' int32 [b, C, W] of the captions, 0
    where nobody knows them, as of captions that somebody has written.

  Raises:
    UsageError: If no piece has a caption.
  """
  captioned = source.captioned()
  if not len(captioned):
    raise UsageError(
      'no piece of this source has a caption: add captions.csv with the '
      'columns path,caption'
    )
  crop, places = _crops(source, crop_seconds, captioned)

  def example(place: int, rng: np.random.Generator) -> Batch:
    number, start = places.draw(place, rng)
    i = captioned[number]
    begin = start / source.sample_rate
    end = begin + crop_seconds
    drawn = [
      source.describe(i, begin, end, rng) for _ in range(captions_per_crop)
    ]
    captions = [caption for caption, _ in drawn]
    attributes = source.attributes(i, begin, end)
    marks = {}
    if mark_true_pairs:
      marks = {
        'piece': np.int32(i),
        'facts': facts.of_crop(attributes),
        'claims': np.stack([facts.of_caption(stated) for _, stated in drawn]),
      }
    return {
      'waveform': source.read(i, start, crop),
      'text_ids': np.stack(
        [tokenizer.encode(caption, text_length) for caption in captions]
      ),
      'group': group_of(attributes or {'caption': captions[0]}),
      **marks,
    }

  return stream(
    example, places.count, batch_size, seed, start_step, shard, readers
  )


def token_batches(
  store: TokenRecords,
  *,
  batch_size: int,
  crop_seconds: float,
  other_window_probability: float,
  streams: Sequence[str] = ('semantic', 'acoustic'),
  seed: int,
  start_step: int = 0,
  shard: HostShard | None = None,
  readers: Readers | None = None,
) -> Iterator[Batch]:
  """Draws nested, aligned crops of tokens, forever.

  A crop lies inside its record and begins on a common frame of all streams
  (40 ms at 25 and 50 Hz, 3 s where windows of the melody are among them). The
  MuLan tokens are those of the whole record, or, so that the model cannot copy
  content from its conditioning, of a window of the same piece that does not
  overlap the crop.

  Args:
    store: Records of one split.
    batch_size: Global batch size.
    crop_seconds: Length of the stage's crop, at most the record's.
    other_window_probability: How often another window conditions.
    streams: Those that vary in time and are wanted, `melody` if it conditions.
    seed: Of order, crops and windows.
    start_step: Global batch with which to begin.
    shard: This host's share of each batch.
    readers: Who reads ahead; None: as suits the machine.

  Returns:
    Iterator of int32 {'mulan' [b, 12], 'semantic' [b, Ts],
    'acoustic' [b, Ta, Q]}, perhaps 'melody' [b, N, Q]; a stream of whose
    frames the crop is no whole number is left out (1.5 s have no semantic
    tokens).

  Raises:
    UsageError: If the crop does not fit into a record or between frames.
  """
  specs = {name: store.specs[name] for name in streams}
  slowest = min(spec.frame_rate for spec in specs.values())
  frames = {
    name: spec.num_frames(crop_seconds)
    for name, spec in specs.items()
    if spec.divides(crop_seconds)
  }
  if not all(spec.divides(1 / slowest) for spec in specs.values()):
    raise UsageError(
      f'a frame every {1 / slowest:g} s does not begin on one of each stream '
      f'({", ".join(specs)}): make tokens whose frames are multiples'
    )
  if not (frames and 0 < crop_seconds <= store.crop_seconds):
    raise UsageError(
      f'crop_seconds={crop_seconds} does not fit: the token store holds crops '
      f'of {store.crop_seconds} s; choose a multiple of {_step(store)} s up to '
      'that, or make the tokens again with a longer --crop_seconds'
    )
  slack = int((store.crop_seconds - crop_seconds) * slowest + 1e-6)
  windows = int(store.crop_seconds / crop_seconds + 1e-6)

  def example(place: int, rng: np.random.Generator) -> Batch:
    i, window = divmod(place, windows)
    record = store.read(i)
    start = int((window + rng.random()) / windows * (slack + 1))
    begin = start / slowest
    crop = {
      name: _cut(record[name], begin * specs[name].frame_rate, count)
      for name, count in frames.items()
    }
    mulan = record['mulan']
    if rng.random() < other_window_probability:
      begin += float(record['start_seconds'])
      mulan = _other_window(record, begin, begin + crop_seconds, rng)
    return {'mulan': mulan.astype(np.int32)} | crop

  count = len(store) * windows
  return stream(example, count, batch_size, seed, start_step, shard, readers)


@dataclasses.dataclass(frozen=True)
class MelodyBook:
  """Melodies that batches are made of.

  Attributes:
    split: Of the melodies.
    count: Of the melodies; an epoch plays each once.
    variety: How takes differ.
    seed: Of the melodies.
  """

  split: str
  count: int
  variety: melody_takes.Variety
  seed: int = 0

  def pair(
    self, index: int, seconds: float, rng: np.random.Generator
  ) -> tuple[melody_takes.Take, melody_takes.Take]:
    """Plays melody `index` twice."""
    melody = melody_takes.compose(self.seed, self.split, index, seconds)
    return melody_takes.pair(melody, self.variety, seconds, rng)


def melody_batches(
  book: MelodyBook,
  *,
  batch_size: int,
  crop_seconds: float,
  seed: int,
  start_step: int = 0,
  shard: HostShard | None = None,
  readers: Readers | None = None,
) -> Iterator[Batch]:
  """Draws melodies forever, with other takes at each return.

  Args:
    book: The melodies.
    batch_size: Global batch size, in melodies.
    crop_seconds: Length of a take.
    seed: Of order and takes.
    start_step: Global batch with which to begin.
    shard: This host's share of each batch.
    readers: Who reads ahead; None: as suits the machine.

  Returns:
    Iterator of {'waveform' float32 [b, 2, S] at 24 kHz, 'group' int32 [b]},
    the group being the melody's index.

  Raises:
    UsageError: If there is no melody, or a batch holds more than there are.
  """
  if not 0 < batch_size <= book.count:
    raise UsageError(
      f'a batch of {batch_size} needs as many melodies, got {book.count}: '
      'raise config.data.tunes or lower config.data.batch_size'
    )

  def example(place: int, rng: np.random.Generator) -> Batch:
    takes = book.pair(place, crop_seconds, rng)
    return {
      'waveform': np.stack([take.waveform for take in takes]),
      'group': np.int32(place),
    }

  return stream(
    example, book.count, batch_size, seed, start_step, shard, readers
  )


def group_of(attributes: Mapping) -> np.ndarray:
  """Hashes attributes to an int32: equal iff they are, but for collisions."""
  text = repr(sorted((str(key), repr(v)) for key, v in attributes.items()))
  digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
  return np.frombuffer(digest, '<i4')[0]


def _step(store: TokenRecords) -> float:
  """The shortest crop that has frames of every stream that they tile."""
  return 1 / min(
    spec.frame_rate
    for spec in store.specs.values()
    if spec.frame_rate and spec.window_seconds is None
  )


def _cut(tokens: np.ndarray, first: float, count: int) -> np.ndarray:
  """Cuts frames out of a stream; `first` is a whole number but for rounding."""
  start = round(first)
  return tokens[start : start + count].astype(np.int32)


def _other_window(
  record: Mapping[str, np.ndarray],
  begin: float,
  end: float,
  rng: np.random.Generator,
) -> np.ndarray:
  """Picks MuLan tokens of a window of the piece beside [begin, end) seconds.

  Falls back to the record's own where the piece has no such window.
  """
  starts = record['piece_starts']
  ends = starts + float(record['crop_seconds'])
  beside = np.flatnonzero((ends <= begin + 1e-6) | (starts >= end - 1e-6))
  if len(beside) == 0:
    return record['mulan']
  return record['piece_mulan'][rng.choice(beside)]


def _crops(
  source: Source, crop_seconds: float, pieces: Sequence[int] | None = None
) -> tuple[int, CropPlaces]:
  """Samples of a crop, and the places of all crops of the pieces, or of all."""
  if crop_seconds <= 0:
    raise UsageError(f'crop_seconds={crop_seconds}: must be above 0')
  crop = round(crop_seconds * source.sample_rate)
  pieces = range(len(source)) if pieces is None else pieces
  return crop, crop_places([source.num_samples(i) for i in pieces], crop)
