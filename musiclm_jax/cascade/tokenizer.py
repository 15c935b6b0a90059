"""The tokenizer: waveform -> tokens of all streams; caption -> MuLan tokens.

  waveform [B, S] -> mulan [B, 12], semantic [B, Ts], acoustic [B, 2 Ts, Q],
                     melody [B, N, 24] with the networks for it
  captions [B]    -> mulan [B, 12]
  both            -> MuLan's embeddings [B, D]

All networks are frozen, so that tokens keep their meaning: nothing here returns
new collections.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from musiclm_jax.cascade import mulan_texts
from musiclm_jax.cascade import networks as trained
from musiclm_jax.cascade.bundle import OPTIONAL, TOKENIZERS
from musiclm_jax.cascade.inputs import SAMPLE_RATE
from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.array_types import Codes, Tokens, Waveform
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.contracts.token_contract import TokenContract, TokenSpec
from musiclm_jax.embedding_rvq.quantizer import EmbeddingQuantizer
from musiclm_jax.melody.embedder import MelodyEmbedder
from musiclm_jax.mulan.embedder import MulanEmbedder
from musiclm_jax.soundstream.codec import Codec
from musiclm_jax.stages import token_stages
from musiclm_jax.w2v_bert.features import SemanticCodebook, SemanticFeatures

TEXT_TOKENIZERS = token_stages('mulan')
SEMANTIC_FRAME_RATE = SemanticFeatures.frame_rate
FRAME_SAMPLES = SemanticFeatures.hop_length  # of a semantic frame
_WORD_LENGTH = 16  # ids that a word by itself is read with
_WORD_BATCH = 64
_NEAREST = 2  # known words that are told of an unknown one
_CACHED_TEXTS = 64
Networks = Mapping[str, Network]  # by stage
Parts = Mapping[str, tuple[Params, Collections]]  # by stage


class Tokenizer:
  """Turns music and sentences into tokens with frozen networks."""

  def __init__(
    self, networks: Networks, vocabulary: Any, caption_words: Any = None
  ):
    """Takes the networks.

    Args:
      networks: `TOKENIZERS` -> network; `TEXT_TOKENIZERS` suffice for text.
        With `OPTIONAL` there are melody tokens, for which these suffice.
      vocabulary: The `data.text.WordPiece` that MuLan was trained with.
      caption_words: The `data.caption_words.CaptionWords` of that training,
        where they are known.
    """
    self._networks = networks
    self._vocabulary = vocabulary
    self._caption_words = caption_words
    self._unknown_words = functools.lru_cache(_CACHED_TEXTS)(
      self._find_unknown_words
    )
    self._programs = {
      program: jax.jit(functools.partial(program, networks))
      for program in (
        _audio_tokens,
        _text_tokens,
        _melody_tokens,
        _embed_audio,
        _embed_text,
      )
    }
    self._stages = tuple(
      stage for stage in (*TOKENIZERS, *OPTIONAL) if stage in networks
    )

  def encode(
    self, waveform: Waveform, acoustic: bool = True
  ) -> dict[str, np.ndarray]:
    """Encodes crops, compiled once for each shape.

    Args:
      waveform: float32 [B, S] at 24 kHz, S a multiple of 960 so that one
        semantic frame is exactly two acoustic ones.
      acoustic: Whether there shall be acoustic tokens, which cost most.

    Returns:
      int32 {'mulan' [B, 12], 'semantic' [B, S / 960],
      'acoustic' [B, S / 480, Q]}, and 'melody' as of `encode_melody` where a
      crop holds a window of it.

    Raises:
      UsageError: If S is not a whole number of frames.
    """
    samples = waveform.shape[-1]
    if samples % FRAME_SAMPLES:
      raise UsageError(
        f'a crop of {samples} samples is no whole number of semantic frames: '
        f'choose a multiple of {1 / SEMANTIC_FRAME_RATE} s'
      )
    stages = [s for s in self._stages if acoustic or s != 'soundstream']
    tokens = self._run(_audio_tokens, stages, waveform)
    frames = samples // FRAME_SAMPLES
    wanted = {'semantic': frames} | (
      {'acoustic': 2 * frames} if acoustic else {}
    )
    # The contract has checked the codec: else a stream would slip unseen.
    assert all(tokens[s].shape[1] == n for s, n in wanted.items()), wanted
    return tokens

  def encode_melody(self, waveform: Waveform) -> np.ndarray:
    """Encodes what melody clips play, int32 [B, N, 24].

    Args:
      waveform: float32 [B, S] at 24 kHz, music, humming or whistling.

    Raises:
      UsageError: If the clips are shorter than a window.
    """
    return self._run(_melody_tokens, OPTIONAL, waveform)

  def encode_text(self, captions: Sequence[str]) -> np.ndarray:
    """Encodes captions into MuLan tokens, int32 [B, 12].

    Text and audio share the codebooks; the text's mean is subtracted where
    training subtracted the audio's: else all texts would have one code.
    """
    return self._run(_text_tokens, TEXT_TOKENIZERS, self._ids(captions))

  def embed_text(self, captions: Sequence[str]) -> np.ndarray:
    """MuLan's embeddings of captions, unit length, float32 [B, D]."""
    return self._run(_embed_text, ('mulan',), self._ids(captions))

  def embed_audio(self, waveform: Waveform) -> np.ndarray:
    """MuLan's embeddings of clips, unit length, float32 [B, D].

    Args:
      waveform: float32 [B, S] at 24 kHz; each embedding is the mean over the
        windows of its clip, which is repeated where it is shorter than one.
    """
    return self._run(_embed_audio, ('mulan',), waveform)

  def centre(self, embedding: np.ndarray, modality: str) -> np.ndarray:
    """Embeddings [B, D] without the mean of `'text'` or `'audio'`, unit."""
    rvq = self._networks['mulan_rvq']
    return jax.device_get(
      rvq.model.centre(rvq.collections, embedding, modality)
    )

  def encode_centred(self, embedding: np.ndarray) -> np.ndarray:
    """MuLan tokens, int32 [B, 12], of embeddings that `centre` has made.

    So are means of several, scaled to length 1: texts and audio lie in one
    space there.
    """
    rvq = self._networks['mulan_rvq']
    codes = rvq.model.codes(rvq.collections, embedding)
    return np.asarray(jax.device_get(codes), np.int32)

  @property
  def mulan(self) -> Network:
    """The network that embeds."""
    return self._networks['mulan']

  def remarks(self, caption: str) -> list[str]:
    """Says in a line each what of a caption MuLan does not know or read."""
    unknown = self.unknown_words(caption)
    return self._vocabulary.remarks(caption, self._text_length, unknown)

  def unknown_words(self, caption: str) -> dict[str, tuple[str, ...]] | None:
    """Finds the words that no caption of MuLan's training held.

    What is beyond the pieces that MuLan reads is left out.

    Returns:
      Word -> the common words of captions whose embeddings are nearest to its
      own, the nearest first; none of a word that is not even spelt. None where
      the words of the captions are not known.
    """
    if self._caption_words is None:
      return None
    return dict(self._unknown_words(caption))

  def _find_unknown_words(self, caption: str) -> dict[str, tuple[str, ...]]:
    unread = self._vocabulary.unread_words(caption)
    words = self._caption_words.unknown(caption)
    read = self._vocabulary.read_words(caption, self._text_length)
    found = {word: () for word in read if word in unread or word in words}
    spelt = [word for word in found if word not in unread]
    common = self._caption_words.common
    if spelt and common:
      cosines = self._embed_words(spelt) @ self._common_words.T
      for word, row in zip(spelt, cosines, strict=True):
        nearest = np.argsort(-row, kind='stable')[:_NEAREST]
        found[word] = tuple(common[i] for i in nearest)
    return found

  @functools.cached_property
  def _common_words(self) -> np.ndarray:
    """Embeddings of the common words of captions [N, D]."""
    return self._embed_words(self._caption_words.common)

  def _embed_words(self, words: Sequence[str]) -> np.ndarray:
    """Embeds words by themselves, without the texts' mean, [N, D].

    So are the texts that become tokens. Batches of one short shape cost a
    large tower less than `embed_text`, and are compiled once.
    """
    length = min(self._text_length, _WORD_LENGTH)
    batches = -(-len(words) // _WORD_BATCH)
    ids = np.zeros((batches, _WORD_BATCH, length), np.int32)
    for place, word in enumerate(words):
      ids[divmod(place, _WORD_BATCH)] = self._vocabulary.encode(word, length)
    rows = [self._run(_embed_text, ('mulan',), batch) for batch in ids]
    return self.centre(np.concatenate(rows)[: len(words)], 'text')

  def contract(
    self, coarse_levels: int, like: TokenContract | None = None
  ) -> TokenContract:
    """Makes the contract of the tokens that come out of here.

    Args:
      coarse_levels: Acoustic levels that the coarse stage shall model.
      like: One to be compared with. Earlier versions wrote the hash of the
        whole codec; where it is that of this one, it is kept.

    Raises:
      UsageError: If the codec has too few levels or another frame rate.
    """
    codec = self._networks['soundstream'].model
    rvq = self._networks['mulan_rvq']
    if not 0 < coarse_levels < codec.num_quantizers:
      raise UsageError(
        f'coarse_levels={coarse_levels}: must leave levels to both stages, '
        f'the codec has {codec.num_quantizers}'
      )
    if codec.frame_rate != 2 * SEMANTIC_FRAME_RATE:
      raise UsageError(
        f'the codec makes {codec.frame_rate:g} frames a second, the cascade '
        f'takes {2 * SEMANTIC_FRAME_RATE:g}: train soundstream with strides '
        'whose product is 480'
      )
    audio_mean, text_mean = (
      jax.device_get(rvq.model.mean(rvq.collections, modality))
      for modality in ('audio', 'text')
    )
    streams = {
      'mulan': TokenSpec(rvq.model.codebook_size, rvq.model.num_levels, 0.0),
      'semantic': TokenSpec(
        self._networks['kmeans'].model.codebook_size, 1, SEMANTIC_FRAME_RATE
      ),
      'acoustic': TokenSpec(
        codec.codebook_size, codec.num_quantizers, float(codec.frame_rate)
      ),
    }
    if 'melody' in self._stages:
      streams['melody'] = melody_spec(self._networks)
    return TokenContract(
      sample_rate=SAMPLE_RATE,
      streams=streams,
      coarse_levels=coarse_levels,
      mulan_audio_mean=tuple(float(x) for x in audio_mean),
      mulan_text_mean=tuple(float(x) for x in text_mean),
      networks=self._hashes(like.networks if like else {}),
    )

  def _hashes(self, known: Mapping[str, str]) -> dict[str, str]:
    networks = {stage: self._networks[stage] for stage in self._stages}
    return {
      stage: n.sha256 if known.get(stage) == n.sha256 else n.codes_sha256
      for stage, n in networks.items()
    }

  @property
  def _text_length(self) -> int:
    return int(self.mulan.config['data']['text_length'])

  def _ids(self, captions: Sequence[str]) -> np.ndarray:
    """Word pieces of captions [B, L]."""
    return np.stack(
      [self._vocabulary.encode(text, self._text_length) for text in captions]
    )

  def _run(
    self, program: Callable, stages: Sequence[str], inputs: Array
  ) -> Any:
    """Runs a program; what its networks have learned are arguments of it."""
    used = {stage: self._networks[stage] for stage in stages}
    parts = {stage: (n.params, n.collections) for stage, n in used.items()}
    return jax.device_get(self._programs[program](parts, inputs))


def load(
  workdirs: str | os.PathLike,
  networks: Networks | None = None,
  dtype: DType = 'float32',
) -> Tokenizer:
  """Opens the tokenizer of a folder of workdirs, or of a bundle.

  Args:
    workdirs: The folder.
    networks: Those of it that are loaded already; None loads what there is.
    dtype: Of the weights that are loaded here; see `networks.load_all`.

  Raises:
    UsageError: If a network or MuLan's vocabulary is missing.
  """
  from musiclm_jax.data.caption_words import CaptionWords
  from musiclm_jax.data.text import WordPiece as Vocabulary

  if networks is None:
    networks = trained.load_all(workdirs, TOKENIZERS, OPTIONAL, dtype)
  words = caption_words_of(workdirs)
  return Tokenizer(
    networks,
    Vocabulary.parse(vocabulary_of(workdirs)),
    None if words is None else CaptionWords.parse(words),
  )


def vocabulary_of(workdirs: str | os.PathLike) -> str:
  """Reads MuLan's word pieces below a folder of workdirs or a bundle.

  Args:
    workdirs: Of workdirs or exports, or a bundle.

  Returns:
    The text of its vocab.txt.

  Raises:
    UsageError: If they are not there.
  """
  found = mulan_texts.read(Path(workdirs) / 'mulan', 'vocab.txt')
  if found is None:
    path = Path(workdirs) / 'mulan' / 'vocab.txt'
    raise UsageError(
      f"'{path}' is missing: train the mulan stage, which leaves it there"
    )
  return found


def caption_words_of(workdirs: str | os.PathLike) -> str | None:
  """Reads the words of MuLan's captions, as `vocabulary_of` its word pieces.

  Returns:
    The text of `data.caption_words`; None where an earlier version trained.

  Raises:
    UsageError: If it is no text.
  """
  from musiclm_jax.data import caption_words

  return mulan_texts.read(Path(workdirs) / 'mulan', caption_words.NAME)


def melody_spec(networks: Networks) -> TokenSpec:
  """Says what melody tokens are: one frame a window of several seconds."""
  melody, rvq = (networks[stage].model for stage in OPTIONAL)
  return TokenSpec(
    rvq.codebook_size,
    rvq.num_levels,
    1 / melody.window_hop_seconds,
    melody.window_seconds,
  )


def _audio_tokens(
  networks: Networks, parts: Parts, waveform: Waveform
) -> dict[str, Codes | Tokens]:
  semantic: SemanticFeatures = networks['w2v_bert'].model
  codebook: SemanticCodebook = networks['kmeans'].model

  features = semantic.features(*parts['w2v_bert'], waveform)
  embedding = _embed_audio(networks, parts, waveform)
  tokens = {
    'mulan': _quantize(networks, parts, embedding, 'audio'),
    'semantic': codebook.assign(parts['kmeans'][1], features)[..., 0],
  }
  if 'soundstream' in parts:
    codec: Codec = networks['soundstream'].model
    tokens['acoustic'] = codec.encode(*parts['soundstream'], waveform)
  seconds = waveform.shape[-1] / SAMPLE_RATE
  if 'melody' in parts and melody_spec(networks).num_frames(seconds):
    tokens['melody'] = _melody_tokens(networks, parts, waveform)
  return tokens


def _melody_tokens(
  networks: Networks, parts: Parts, waveform: Waveform
) -> Codes:
  melody: MelodyEmbedder = networks['melody'].model
  rvq: EmbeddingQuantizer = networks['melody_rvq'].model
  embedding = melody.embed_audio(*parts['melody'], waveform)
  rows = embedding.reshape(-1, embedding.shape[-1])
  codes = rvq.quantize(parts['melody_rvq'][1], rows, 'audio')
  return codes.reshape(*embedding.shape[:2], -1)


def _text_tokens(networks: Networks, parts: Parts, ids: Array) -> Codes:
  embedding = _embed_text(networks, parts, ids)
  return _quantize(networks, parts, embedding, 'text')


def _quantize(
  networks: Networks, parts: Parts, embedding: Array, modality: str
) -> Codes:
  rvq: EmbeddingQuantizer = networks['mulan_rvq'].model
  return rvq.quantize(parts['mulan_rvq'][1], embedding, modality)


def _embed_audio(networks: Networks, parts: Parts, waveform: Waveform) -> Array:
  mulan: MulanEmbedder = networks['mulan'].model
  return mulan.embed_audio(*parts['mulan'], waveform)


def _embed_text(networks: Networks, parts: Parts, ids: Array) -> Array:
  mulan: MulanEmbedder = networks['mulan'].model
  return mulan.embed_text(*parts['mulan'], ids)
