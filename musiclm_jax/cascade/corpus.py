"""A corpus becomes tokens: source -> crops [B, S] -> records of a token store.

Captions are read in held-out splits only, to measure how well prompts work;
records that are trained on are of audio alone.
"""

import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from musiclm_jax.cascade import source_code, tokenizer
from musiclm_jax.cascade.tokenizer import SEMANTIC_FRAME_RATE, Tokenizer
from musiclm_jax.contracts import bounds, ownership, paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import KeptParts
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.data.batches import crop_starts
from musiclm_jax.data.origins import Origins, ShardOrigins
from musiclm_jax.data.sources import Source, open_source
from musiclm_jax.data.token_store import (
  CONTRACT,
  FOLDER,
  Plan,
  TokenRecord,
  TokenStoreWriter,
)
from musiclm_jax.dsp.level import rms_dbfs

CAPTIONS_PER_CROP = 4
_GRID_SECONDS = 1 / SEMANTIC_FRAME_RATE
_LOOKED_AT = 250  # frames at once, where a piece begins or ends to sound
Report = Callable[[str], None]
_Asked = TypeVar('_Asked')
_Read = TypeVar('_Read')


@dataclasses.dataclass(frozen=True)
class Cutting:
  """How music is cut into crops.

  Attributes:
    crop_seconds: Length of a record, a multiple of 40 ms.
    hop_seconds: From one crop of a piece to the next; None: no overlap.
    batch_size: Crops that go through the networks at once.
    max_pieces: Most pieces, the first ones of a split; None takes all.
    min_dbfs: Softer crops, beginnings and ends of pieces are left out, none at
      -120: an LM that has learned silence falls into it, and each silent token
      keeps it there.
  """

  crop_seconds: float
  hop_seconds: float | None = None
  batch_size: int = 8
  max_pieces: int | None = None
  min_dbfs: float = -120.0

  def check(self) -> None:
    """Refuses impossible values.

    Raises:
      UsageError: Naming the flag.
    """
    for name in ('crop_seconds', 'hop_seconds'):
      if (value := getattr(self, name)) is not None:
        bounds.check(f'--{name}', value, (_GRID_SECONDS, 86_400.0))
    if not -120 <= self.min_dbfs <= 0:
      raise UsageError(
        f'--min_dbfs={self.min_dbfs}: choose a level from -120 (all) to 0'
      )
    frames = self.crop_seconds / _GRID_SECONDS
    if abs(frames - round(frames)) > 1e-6:
      raise UsageError(
        f'--crop_seconds={self.crop_seconds}: choose a multiple of 0.04 s, so '
        'that it is a whole number of semantic frames'
      )

  @property
  def hop(self) -> float:
    """Seconds from crop to crop."""
    return self.hop_seconds or self.crop_seconds


def tokenize(
  workdirs: str | os.PathLike,
  source: str,
  out: str | os.PathLike,
  cutting: Cutting,
  *,
  splits: Sequence[str],
  coarse_levels: int,
  acoustic: bool = True,
  dtype: DType = 'float32',
  overwrite: bool = False,
  process_index: int = 0,
  process_count: int = 1,
  report: Report = lambda line: None,
  progress: ProgressCallback | None = None,
) -> None:
  """Turns splits of a source into a token store, or this process's share.

  Args:
    workdirs: Folder of the workdirs of the networks, or a bundle.
    source: `kind:DIR`.
    out: Folder of the store, which the caller holds.
    cutting: Of the music.
    splits: Names.
    coarse_levels: Acoustic levels of the coarse stage.
    acoustic: Whether records hold acoustic tokens.
    dtype: That the networks' weights are rounded to; see `tensor_file`.
    overwrite: Whether a store that is there is replaced.
    process_index: Of this process.
    process_count: Of all.
    report: Takes lines for the user.
    progress: Takes events, counted in crops.

  Raises:
    UsageError: If a network or a split is missing, or the store is another's.
  """
  opened = {split: open_source(source, split) for split in splits}
  for split, pieces in opened.items():
    if split != 'train':
      pieces.captioned()  # what is wrong with them is said before the work
  trained = tokenizer.load(workdirs, dtype=dtype)
  begun = Path(out) / CONTRACT
  goes_on = begun.exists() and not overwrite
  contract = trained.contract(
    coarse_levels, TokenContract.read(begun) if goes_on else None
  )
  code = source_code.digest(__name__, contract.networks)
  if overwrite:
    ownership.clear(out, FOLDER)
  for split, pieces in opened.items():
    corpus = SplitTokenizer(
      trained, pieces, split, cutting, report, progress, code, acoustic
    )
    left_out = corpus.write(out, source, contract, process_index, process_count)
    if left_out.short_pieces:
      report(
        f'{split}: {left_out.short_pieces} pieces of less than half a crop '
        'left out'
      )
    if left_out.soft_crops:
      report(
        f'{split}: {left_out.soft_crops} crops below {cutting.min_dbfs:g} dBFS '
        'left out'
      )
  report(f'tokens of {", ".join(opened)} are in {out}')


@dataclasses.dataclass(frozen=True)
class Crop:
  """Where a crop lies: piece and start in seconds."""

  piece: int
  start_seconds: float


@dataclasses.dataclass(frozen=True)
class LeftOut:
  """What did not become tokens.

  Attributes:
    short_pieces: Pieces of less than half a crop, of the whole split.
    soft_crops: Crops below the level asked for, of the shards written now.
  """

  short_pieces: int
  soft_crops: int


@dataclasses.dataclass(frozen=True)
class SplitTokenizer:
  """Turns one split of a source into tokens.

  Attributes:
    tokenizer: The frozen networks.
    source: The split's pieces.
    split: Its name; captions are read unless it is `'train'`.
    cutting: Of its music.
    report: Takes lines for the user.
    progress: Takes events, counted in crops.
    code: Hash of the code that makes the tokens.
    acoustic: Whether there are acoustic tokens among them.
  """

  tokenizer: Tokenizer
  source: Source
  split: str
  cutting: Cutting
  report: Report = lambda line: None
  progress: ProgressCallback | None = None
  code: str = ''
  acoustic: bool = True

  def write(
    self,
    folder: str,
    source_name: str,
    contract: TokenContract,
    process_index: int = 0,
    process_count: int = 1,
  ) -> LeftOut:
    """Writes the shards that are missing, or this process's share of them.

    Args:
      folder: Of the token store.
      source_name: `kind:DIR`, noted in the store.
      contract: Of the tokens.
      process_index: Of this process.
      process_count: Of all.

    Raises:
      UsageError: If no piece is long enough, the store belongs to others, or
        its music has changed and its place too.
    """
    cutting = self.cutting
    pieces = range(len(self.source))[: cutting.max_pieces]
    rate = self.source.sample_rate
    most = [
      len(self._starts(0.0, self.source.num_samples(i) / rate)) for i in pieces
    ]
    if not any(most):
      raise UsageError(
        f'no piece of the {self.split} split has the '
        f'{cutting.crop_seconds / 2:g} s that half a crop needs: use longer '
        'music or choose a shorter --crop_seconds'
      )
    plan = Plan(
      tuple(self.source.piece_id(i) for i in pieces),
      cutting.crop_seconds,
      cutting.hop,
      cutting.min_dbfs,
      source_name,
      self.acoustic,
    )
    writer = TokenStoreWriter(folder, self.split, plan, contract)
    origins = Origins(self.source, captioned=self.split != 'train')
    shards = range(process_index, plan.num_shards, process_count)
    writer.remove_stale(origins, shards, self.code, self.report)
    missing = writer.missing(process_index, process_count)
    total = sum(most[i] for s in missing for i in plan.shard_pieces(s))
    # Where nothing is left to do there is nothing to show.
    shown = self.progress if total else None
    meter = Meter(self.split, total, 'crops', shown)
    given, written = 0, 0
    cut = _ahead(self._crops, [plan.shard_pieces(shard) for shard in missing])
    for shard, crops in zip(missing, cut, strict=True):
      possible = sum(most[i] for i in plan.shard_pieces(shard))
      given += possible
      made_of = ShardOrigins(
        {plan.pieces[i]: origins.of(i) for i in plan.shard_pieces(shard)},
        self.code,
      )
      with writer.begin(shard, made_of) as kept:
        written += writer.write(shard, self._records(crops, meter, kept))
      meter.advance(possible - len(crops), skipped=True)
    return LeftOut(most.count(0), given - written)

  def _crops(self, pieces: Sequence[int]) -> list[Crop]:
    """Places the crops of pieces, in what of them is loud enough."""
    return [
      Crop(piece, start)
      for piece in pieces
      for start in self._starts(*self._heard(piece))
    ]

  def _starts(self, begin: float, end: float) -> list[float]:
    """Places crops between two times of a piece, in seconds."""
    cutting = self.cutting
    starts = crop_starts(
      end - begin, cutting.crop_seconds, cutting.hop, _GRID_SECONDS
    )
    return [round(begin + start, 6) for start in starts]

  def _heard(self, piece: int) -> tuple[float, float]:
    """From when to when a piece is loud enough, in seconds on the grid."""
    size = round(_GRID_SECONDS * self.source.sample_rate)
    count = self.source.num_samples(piece) // size

    def loud(first: int) -> np.ndarray:
      frames = min(_LOOKED_AT, count - first)
      read = self.source.read(piece, first * size, frames * size)
      levels = rms_dbfs(read.reshape(frames, size))
      return first + np.flatnonzero(levels >= self.cutting.min_dbfs)

    def nearest(blocks: Iterable[int], index: int) -> int | None:
      found = (loud(first) for first in blocks)
      return next((some[index] for some in found if len(some)), None)

    blocks = range(0, count, _LOOKED_AT)
    begin = nearest(blocks, 0)
    if begin is None:
      return 0.0, 0.0
    last = nearest(reversed(blocks), -1)
    return float(begin * _GRID_SECONDS), float((last + 1) * _GRID_SECONDS)

  def _records(
    self, crops: list[Crop], meter: Meter, kept: KeptParts
  ) -> Iterator[TokenRecord]:
    """Makes the records of whole pieces, in the order of the crops."""
    pairs = self._encoded(crops, meter, kept)
    for piece, group in itertools.groupby(pairs, lambda pair: pair[0].piece):
      group = list(group)
      piece_mulan = np.stack([tokens['mulan'] for _, tokens in group])
      piece_starts = np.asarray([crop.start_seconds for crop, _ in group])
      for crop, tokens in group:
        yield TokenRecord(
          piece_id=self.source.piece_id(piece),
          start_seconds=crop.start_seconds,
          crop_seconds=self.cutting.crop_seconds,
          piece_mulan=piece_mulan,
          piece_starts=piece_starts,
          **tokens,
        )

  def _encoded(
    self, crops: list[Crop], meter: Meter, kept: KeptParts
  ) -> Iterator[tuple[Crop, dict[str, np.ndarray]]]:
    """Encodes the crops that are loud enough, each batch while one is read."""
    batches = {
      f'{self.cutting.batch_size} crops from {first}': crops[
        first : first + self.cutting.batch_size
      ]
      for first in range(0, len(crops), self.cutting.batch_size)
    }
    waveforms = _ahead(
      self._read, [batch for name, batch in batches.items() if name not in kept]
    )
    for name, batch in batches.items():
      is_kept = name in kept
      made = kept(name, lambda batch=batch: self._encode(batch, waveforms))
      meter.advance(len(batch), skipped=is_kept)
      for row, crop in enumerate(batch):
        if made['loud'][row]:
          one = {stream: made[stream][row] for stream in made['streams']}
          if 'mulan_text' in made and made['captioned'][row]:
            one['mulan_text'] = made['mulan_text'][row]
          yield crop, one

  def _encode(
    self, batch: list[Crop], waveforms: Iterator[np.ndarray]
  ) -> dict[str, np.ndarray]:
    """All that records need of a batch, rows of which are its crops."""
    waveform = next(waveforms)
    levels = [rms_dbfs(row) for row in waveform[: len(batch)]]
    tokens = self.tokenizer.encode(waveform, self.acoustic)
    made = {
      **tokens,
      'streams': np.array(list(tokens)),
      'loud': np.array([level >= self.cutting.min_dbfs for level in levels]),
    }
    return made | self._texts(batch)

  def _read(self, batch: list[Crop]) -> np.ndarray:
    """Reads crops [batch_size, S]; missing rows repeat the last one."""
    rate = self.source.sample_rate
    samples = round(self.cutting.crop_seconds * rate)
    rows = [
      self.source.read(c.piece, round(c.start_seconds * rate), samples)
      for c in batch
    ]
    rows += rows[-1:] * (self.cutting.batch_size - len(rows))
    return np.stack(rows)

  def _texts(self, batch: list[Crop]) -> dict[str, np.ndarray]:
    """Captions of held-out crops as MuLan tokens [B, n, 12], where some are."""
    if self.split == 'train':
      return {}
    captions = [self._captions(crop) for crop in batch]
    captions += [[]] * (self.cutting.batch_size - len(batch))
    filled = [c or [''] * CAPTIONS_PER_CROP for c in captions]
    tokens = self.tokenizer.encode_text(
      list(itertools.chain.from_iterable(filled))
    )
    return {
      'mulan_text': tokens.reshape(
        self.cutting.batch_size, CAPTIONS_PER_CROP, -1
      ),
      'captioned': np.array([bool(texts) for texts in captions]),
    }

  def _captions(self, crop: Crop) -> list[str]:
    """Draws a crop's captions; the same ones whenever they are drawn."""
    name = f'{self.source.piece_id(crop.piece)} {crop.start_seconds:.2f}'
    digest = hashlib.blake2b(paths.name_to_bytes(name), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, 'big'))
    end = crop.start_seconds + self.cutting.crop_seconds
    drawn = [
      self.source.describe(crop.piece, crop.start_seconds, end, rng)[0]
      for _ in range(CAPTIONS_PER_CROP)
    ]
    return [] if None in drawn else drawn


def _ahead(
  read: Callable[[_Asked], _Read], asked: Sequence[_Asked]
) -> Iterator[_Read]:
  """Reads in order, each while the one before is used."""
  with concurrent.futures.ThreadPoolExecutor(1) as reader:
    ahead = reader.submit(read, asked[0]) if asked else None
    for number in range(len(asked)):
      found = ahead.result()
      if number + 1 < len(asked):
        ahead = reader.submit(read, asked[number + 1])
      yield found
