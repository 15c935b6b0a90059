"""What a run has left to evaluate: bundle, corpus, token stores.

Rows of one shape go through every network in batches of one size, so that
each program compiles once.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax import stages
from musiclm_jax.cascade import bundle, networks
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.data import sources
from musiclm_jax.data.token_store import TokenRecord, TokenStore

TICK_SECONDS = 0.04  # a common frame of all token streams


@dataclasses.dataclass(frozen=True)
class Excerpt:
  """A stretch of a piece of the corpus.

  Attributes:
    piece: Index in its split's source.
    start_seconds: Where it begins.
    seconds: How long it is.
  """

  piece: int
  start_seconds: float
  seconds: float


class CorpusSplit:
  """One split: its music, and the tokens that were made of it."""

  def __init__(self, source: sources.Source, store: TokenStore):
    """Takes a source and the store of its tokens."""
    self.source = source
    self.store = store

  @functools.cached_property
  def records(self) -> list[TokenRecord]:
    """All records of the store, in order."""
    return [self.store.record(i) for i in range(len(self.store))]

  @functools.cached_property
  def index_of(self) -> dict[str, int]:
    """Piece id -> index in the source."""
    source = self.source
    return {source.piece_id(i): i for i in range(len(source))}

  def crop(self, record: TokenRecord) -> Excerpt:
    """The stretch that a record describes."""
    piece = self.index_of[record.piece_id]
    return Excerpt(piece, record.start_seconds, self.store.crop_seconds)

  def read(self, crop: Excerpt) -> np.ndarray:
    """The crop's samples, float32 [S]."""
    return self.source.read(
      crop.piece,
      round(crop.start_seconds * SAMPLE_RATE),
      round(crop.seconds * SAMPLE_RATE),
    )

  def attributes(self, crop: Excerpt) -> Mapping[str, Any]:
    """What is audible in the crop."""
    end = crop.start_seconds + crop.seconds
    return self.source.attributes(crop.piece, crop.start_seconds, end)

  def describe(
    self, crop: Excerpt, rng: np.random.Generator
  ) -> tuple[str, Mapping[str, Any]]:
    """A sentence on the crop, and what it states."""
    end = crop.start_seconds + crop.seconds
    return self.source.describe(crop.piece, crop.start_seconds, end, rng)

  def crops(self, seconds: float, per_piece: int, limit: int) -> list[Excerpt]:
    """Evenly spread crops of every piece, one round of pieces after another.

    Args:
      seconds: Of each crop.
      per_piece: At most so many of a piece.
      limit: At most so many in all.
    """
    out = []
    for turn in range(per_piece):
      for piece in range(len(self.source)):
        whole = self.source.num_samples(piece) / SAMPLE_RATE
        space = max(0.0, whole - seconds)
        start = space * (turn + 1) / (per_piece + 1)
        start = int(start / TICK_SECONDS) * TICK_SECONDS
        out.append(Excerpt(piece, start, seconds))
    return out[:limit]

  def spread_records(self, per_piece: int, limit: int) -> list[TokenRecord]:
    """Some records of every piece, evenly spread over the piece."""
    by_piece: dict[str, list[TokenRecord]] = {}
    for record in self.records:
      by_piece.setdefault(record.piece_id, []).append(record)
    rounds: list[TokenRecord] = []
    for turn in range(per_piece):
      for own in by_piece.values():
        if turn < len(own):
          rounds.append(own[len(own) * turn // min(per_piece, len(own))])
    return rounds[:limit]


class Artifacts:
  """The bundle's networks and both splits of the corpus."""

  def __init__(self, demo: Path):
    """Opens what a run has left.

    Raises:
      UsageError: If something is missing or damaged.
    """
    self.demo = demo
    self.model = MusicLM.load(demo / 'bundle')
    self.bundle, self.networks = self.model.bundle, self.model.networks

  @functools.cached_property
  def train(self) -> CorpusSplit:
    """The training split."""
    return open_split(self.demo, 'train')

  @functools.cached_property
  def semantic_training(self) -> list[TokenRecord]:
    """What the semantic stage has learned from, which may be more music."""
    store = self.demo / 'semantic_tokens'
    if not store.is_dir():
      return self.train.records
    return CorpusSplit(self.train.source, TokenStore(store, 'train')).records

  @functools.cached_property
  def test(self) -> CorpusSplit:
    """The split that nothing has been trained or chosen on."""
    return open_split(self.demo, 'test')

  def text_embeddings(self, captions: Sequence[str]) -> np.ndarray:
    """`MusicLM.embed_text` of captions, unit length [N, 128]."""
    return in_batches(self.model.embed_text, np.asarray(captions))

  def audio_embeddings(self, waveforms: np.ndarray) -> np.ndarray:
    """`MusicLM.embed_audio` of clips [N, S], unit length [N, 128]."""
    return in_batches(self.model.embed_audio, waveforms)

  @functools.cached_property
  def codec(self) -> 'BatchedCodec':
    """The bundle's SoundStream."""
    return BatchedCodec(self.networks['soundstream'])

  def trained_features(self) -> Callable[[np.ndarray], np.ndarray]:
    """Features [B, T, D] of the layer of w2v-BERT that becomes tokens."""
    return _jitted(self.networks['w2v_bert'], 'features')

  def initial_features(self) -> Callable[[np.ndarray], np.ndarray]:
    """Features [B, T, D] of w2v-BERT before any training.

    It reads input that is standardised like the trained one's: statistics of
    the corpus are not what training has to show.
    """
    import jax
    from flax import linen as nn

    network = self.networks['w2v_bert']
    example = {'waveform': np.zeros((1, 2 * SAMPLE_RATE), np.float32)}
    params, _ = stages.build(network.config).init(jax.random.key(0), example)
    params = nn.unbox(params)
    return jax.jit(
      lambda rows: network.model.features(params, network.collections, rows)
    )


class BatchedCodec:
  """A trained SoundStream, applied batch by batch.

  Attributes:
    sha256: Of its weights.
    codebook_size: K.
  """

  def __init__(self, network: networks.Network):
    """Takes the network; it is compiled when it is first used."""
    self.sha256 = network.sha256
    self._encode = _jitted(network, 'encode')
    self._decode = _jitted(network, 'decode')
    self._forward = _jitted(network, 'reconstruct')
    self.codebook_size = network.model.codebook_size

  def encode(self, waveforms: np.ndarray) -> np.ndarray:
    """Codes of clips [N, S], all levels [N, T, Q]."""
    return in_batches(self._encode, waveforms)

  def decode(self, codes: np.ndarray) -> np.ndarray:
    """Clips [N, S] of codes of the first levels."""
    return in_batches(self._decode, codes)

  def forward(self, waveforms: np.ndarray) -> np.ndarray:
    """Clips as the forward pass of training gives them back [N, S]."""
    return in_batches(lambda rows: self._forward(rows)[0], waveforms)

  def through(self, waveforms: np.ndarray) -> np.ndarray:
    """Clips as the codec gives them back, all levels [N, S]."""
    return self.decode(self.encode(waveforms))


def trained_codec(workdir: Path) -> BatchedCodec:
  """The codec of a workdir, before there is a bundle."""
  return BatchedCodec(networks.load(workdir, 'soundstream'))


def check_bundle(folder: Path, overwrite: bool) -> None:
  """Checks that a bundle may be written; see `bundle.check_out`."""
  bundle.check_out(folder, overwrite)


def open_split(demo: Path, name: str) -> CorpusSplit:
  """Opens one split of a demo's corpus and its tokens.

  Raises:
    UsageError: If something is missing or damaged.
  """
  source = sources.open_source(f'prepared:{demo / "corpus"}', name)
  return CorpusSplit(source, TokenStore(demo / 'tokens', name))


def _jitted(network: networks.Network, method: str) -> Callable:
  """A method of a network as a compiled function of rows."""
  import jax

  function = jax.jit(getattr(network.model, method))
  return lambda rows: function(network.params, network.collections, rows)


def in_batches(
  function: Callable[[np.ndarray], Any], rows: np.ndarray, size: int = 8
) -> np.ndarray:
  """Applies a function to `size` rows at a time; the last batch is padded.

  Args:
    function: [size, ...] -> [size, ...].
    rows: [N, ...], N >= 1.
    size: Rows at a time.

  Returns:
    Results of the N rows.
  """
  out = []
  for first in range(0, len(rows), size):
    index = np.minimum(np.arange(first, first + size), len(rows) - 1)
    part = np.asarray(function(rows[index]))
    out.append(part[: len(rows) - first])
  return np.concatenate(out)
