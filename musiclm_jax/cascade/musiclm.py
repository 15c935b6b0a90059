"""MusicLM, the Python API: text -> music, music -> tokens and embeddings.

MusicLM.load(bundle).generate('slow piano', seconds=10).save('piano.wav')
"""

import functools
import numbers
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.cascade import (
  bundle,
  conditioning,
  continuation,
  drafts,
  inputs,
  music_stream,
  prompts,
  provenance,
  request,
  resumption,
  song_search,
)
from musiclm_jax.cascade import tokenizer as tokenizers
from musiclm_jax.cascade.conditioning import Melody
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.inputs import Audio
from musiclm_jax.cascade.music import Music
from musiclm_jax.cascade.music_stream import MusicStream
from musiclm_jax.cascade.networks import LazyNetworks, Network
from musiclm_jax.cascade.piece import Piece
from musiclm_jax.cascade.prompts import Prompt, PromptEncoder
from musiclm_jax.cascade.request import Request
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts import paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import Keep, unkept
from musiclm_jax.contracts.progress import ProgressCallback
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.data.audio_folder import AudioFolder


class MusicLM:
  """A trained cascade; each network is loaded when it is first needed.

  Attributes:
    bundle: The files.
    networks: Stage -> network, for whoever needs one alone.
    sample_rate: Of all waveforms, in Hz.
  """

  def __init__(
    self,
    opened: bundle.Bundle,
    report: Callable[[str], None] | None = None,
    *,
    tensor: int = 1,
    weights: DType = 'float32',
    drafts: str | os.PathLike | None = None,
    parallel: str | os.PathLike | None = None,
  ):
    """Takes an open bundle; see `load`."""
    self.bundle, self._weights, self._drafts = opened, weights, drafts
    self.sample_rate = opened.contract.sample_rate
    self._report = report or (lambda line: None)
    self._warn = report or warnings.warn
    self.networks: Mapping[str, Network] = LazyNetworks(
      opened, self._report, tensor, parallel and paths.local(parallel)
    )

  @classmethod
  def load(
    cls,
    path: str | os.PathLike | None = None,
    report: Callable[[str], None] | None = None,
    *,
    tensor: int = 1,
    weights: DType = 'float32',
    drafts: str | os.PathLike | None = None,
    parallel: str | os.PathLike | None = None,
  ) -> 'MusicLM':
    """Opens a bundle and checks its files.

    Pieces are made on all devices that jax has, as many on each.

    Args:
      path: Folder of the bundle; None is the model inside the package.
      report: Takes lines for the user; None makes warnings of those on words
        that are not known, and drops the others.
      tensor: Devices that share a language model's layers, each with a part of
        the heads and hidden units, where one is too small for it.
      weights: Type that the language models' kernels have on the device:
        bfloat16 and int8 need a half and a quarter of the memory, and round.
      drafts: Folder of smaller language models, of which each guesses what one
        of the bundle draws, several tokens a pass; see `cascade.drafts`.
      parallel: Workdir or export of a `parallel` training on the bundle's
        tokens: it draws all acoustic codes of a window in few passes, in the
        place of the coarse and the fine stage, with the sampling settings of
        the coarse one.

    Raises:
      UsageError: If it is missing, damaged or of another version.
    """
    opened = bundle.read(bundle.SHIPPED if path is None else paths.local(path))
    how = {'tensor': tensor, 'weights': weights}
    return cls(opened, report, **how, drafts=drafts, parallel=parallel)

  @property
  def sampling(self) -> SamplingConfig:
    """How the bundle proposes to sample."""
    return self.bundle.settings

  def generate(
    self,
    text: Prompt | Sequence[Prompt] | None = None,
    *,
    seconds: float = 10.0,
    seed: int = 0,
    melody: Audio | None = None,
    continue_from: Audio | None = None,
    negative: str | None = None,
    best_of: int = 1,
    first_row: int = 0,
    sampling: SamplingConfig | Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    out: str | os.PathLike | None = None,
    overwrite: bool = False,
    keep: Keep | None = None,
    report: Callable[[str], None] | None = None,
    **changes: Any,
  ) -> Music:
    """Makes music.

    The same arguments, bundle and machine give the same samples; a text's do
    not depend on the other texts of a list but on its place in it.

    Args:
      text: What to play, or a list of it: texts, or what `cascade.prompts`
        has: `SoundPrompt`, `Mixture` and `Story`. None plays in the style of
        `continue_from`.
      seconds: Length, in (0, 3600].
      seed: Another seed, in [0, 2**32), gives other music.
      melody: Path of a sound file or float [S] at 24 kHz that all of it
        follows, where the bundle has learned to; longer music gets it again
        from its beginning.
      continue_from: Path of a sound file or float [S] at 24 kHz with which
        all of it begins, sample by sample; `seconds` counts it.
      negative: A text that guidance pushes away from, in the place of no text.
      best_of: Takes of each piece, of the seeds from `seed` on, of which the
        one stays that fits its prompt best by MuLan.
      first_row: Place of the first text: with 3 a text becomes what it became
        as the fourth of a list.
      sampling: How to draw, or fields of it to change; None takes what the
        bundle proposes.
      progress: Takes events of each stage.
      out: WAV or FLAC file to write, as `Music.save` does; what is finished is
        kept beside it until then, so that the same call goes on after an
        interruption.
      overwrite: Whether `out` may replace files that others wrote.
      keep: Keeps what is finished in the caller's place; see
        `contracts.kept_parts`.
      report: Takes the remarks on prompts, such as on words that are not
        known, in the place of that of `load`.
      **changes: Fields of `SamplingConfig` to change, such as
        `temperature_coarse=0.9` or `top_k_semantic=50`.

    Raises:
      UsageError: If an argument is out of bounds, `out` cannot be written, or
        the bundle has not learned to follow a melody.
    """
    asked = self._asked(
      text,
      seconds=seconds,
      seed=seed,
      melody=melody,
      recording=continue_from,
      negative=negative,
      takes=best_of,
      first_row=first_row,
      sampling=sampling,
      changes=changes,
    )
    if out is not None:
      out = paths.local(out)
      count = None if asked.is_one else len(asked.prompts)
      for path in provenance.outputs(out, count, seconds, overwrite):
        if not provenance.sidecar(path):
          self._report('no .json beside it, whose name would be too long')
    recording, hummed, metadata = self._prepare(asked, report)
    folder = None if keep or out is None else out.parent
    with resumption.kept(folder, metadata, self._report, __name__) as own:
      keep = keep or own
      music = self._make(asked, recording, hummed, metadata, keep, progress)
      for path in music.save(out, overwrite) if out else ():
        self._report(f'wrote {path}')
    return music

  def stream(
    self,
    text: Prompt | None = None,
    *,
    seconds: float = 10.0,
    seed: int = 0,
    melody: Audio | None = None,
    continue_from: Audio | None = None,
    negative: str | None = None,
    sampling: SamplingConfig | Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    report: Callable[[str], None] | None = None,
    **changes: Any,
  ) -> MusicStream:
    """Makes music that is heard while it is made.

    Args:
      text: What to play, one prompt.
      seconds: See `generate`.
      seed: See `generate`.
      melody: See `generate`.
      continue_from: See `generate`.
      negative: See `generate`.
      sampling: See `generate`.
      progress: See `generate`.
      report: See `generate`.
      **changes: See `generate`.

    Returns:
      What yields the samples of `generate`, float32 [n], as they are made.

    Raises:
      UsageError: As `generate`, and if it is a list of prompts.
    """
    asked = self._asked(
      text,
      seconds=seconds,
      seed=seed,
      melody=melody,
      recording=continue_from,
      negative=negative,
      sampling=sampling,
      changes=changes,
    )
    music_stream.check_one(asked)
    recording, hummed, metadata = self._prepare(asked, report)
    mulan, piece, sampling = self._begin(
      asked, asked.encoder(self.tokenizer), recording, hummed, unkept, progress
    )
    return MusicStream(
      asked,
      self.tokenizer,
      piece,
      mulan,
      sampling,
      metadata,
      recording,
      self.sample_rate,
    )

  def _asked(self, text: Any, **asked: Any) -> Request:
    """Checks what a call asks for; see `request.read`."""
    return request.read(
      text,
      proposed=self.sampling,
      all_levels=self.bundle.contract.streams['mulan'].num_levels,
      **asked,
    )

  def _prepare(
    self, asked: Request, report: Callable[[str], None] | None
  ) -> tuple[np.ndarray | None, Melody | None, dict[str, Any]]:
    """Reads the sounds of a request and says what of it is not heard."""
    recording = asked.read_recording()
    hummed = conditioning.read_melody(
      asked.melody,
      self.bundle,
      self.tokenizer,
      self._generator.melody_stages,
      self._report,
    )
    for line in asked.remarks(self.tokenizer):
      (report or self._warn)(line)
    return recording, hummed, self._metadata(asked)

  def _begin(
    self,
    asked: Request,
    encoder: PromptEncoder,
    recording: np.ndarray | None,
    melody: Melody | None,
    keep: Keep,
    progress: ProgressCallback | None,
  ) -> tuple[np.ndarray, Piece, SamplingConfig]:
    """MuLan tokens [B, 12], what is to be made, and how it is drawn."""
    mulan, conditioning, sampling = asked.conditioning(encoder, melody)
    piece = self._generator.piece(
      conditioning,
      seconds=float(asked.seconds),
      seed=asked.seeds,
      sampling=sampling,
      begun=None if recording is None else self.tokenize(recording),
      keep=keep,
      progress=progress,
    )
    return mulan, piece, sampling

  def _make(
    self,
    asked: Request,
    recording: np.ndarray | None,
    melody: Melody | None,
    metadata: dict[str, Any],
    keep: Keep,
    progress: ProgressCallback | None,
  ) -> Music:
    """Makes what is asked for, and chooses among takes."""
    encoder = asked.encoder(self.tokenizer)
    mulan, piece, _ = self._begin(
      asked, encoder, recording, melody, keep, progress
    )
    waveform, tokens = piece.all(), piece.tokens()
    if recording is not None:
      waveform = continuation.Splice(recording)(waveform)
    chosen = np.arange(len(asked.prompts))
    if asked.takes > 1:
      scores = asked.scores(encoder, waveform)
      take = scores.argmax(axis=0)
      chosen = take * len(asked.prompts) + chosen
      metadata = metadata | {
        'seeds': [asked.seeds[row][0] for row in chosen],
        'text_scores': [float(score) for score in scores.max(axis=0)],
      }
    tokens = {stream: codes[chosen] for stream, codes in tokens.items()}
    tokens, waveform = {'mulan': mulan, **tokens}, waveform[chosen]
    if asked.is_one:
      waveform = waveform[0]
      tokens = {stream: codes[0] for stream, codes in tokens.items()}
    return Music(waveform, tokens, metadata, self.sample_rate)

  def unknown_words(self, text: str) -> dict[str, tuple[str, ...]] | None:
    """Tells which words of a prompt no caption of MuLan's training held.

    Returns:
      Word -> the captions' words whose embeddings are nearest to its own, the
      nearest first: what the model takes it for. None are told of a word that
      is in letters it cannot read. None for bundles of earlier versions, which
      hold no words of captions.

    Raises:
      UsageError: If there is no text.
    """
    return self.tokenizer.unknown_words(inputs.read_text(text))

  def tokenize(self, audio: Audio) -> dict[str, np.ndarray]:
    """Turns music into the tokens that the language models learn from.

    More than a minute goes through the networks in parts, each with all that
    it depends on: what is kept of a minute is its waveform, its tokens and
    what these are made of. Only a w2v-BERT whose attention is not limited
    (`tiny`, `paper`) reads all at once, in memory that grows with the square
    of the length.

    Args:
      audio: Path of a sound file, or float [S] or [B, S] at 24 kHz. What is
        left after the last whole frame of 40 ms is not read.

    Returns:
      Stream -> int32: `mulan` [..., 12], `semantic` [..., T], `acoustic`
      [..., 2 T, Q], and `melody` [..., N, Q] where the bundle has networks
      for it and the audio a window of it.

    Raises:
      UsageError: If it is no sound, or shorter than a frame.
    """
    waveform = inputs.read_audio(audio)
    samples = waveform.shape[-1]
    samples -= samples % tokenizers.FRAME_SAMPLES
    if not samples:
      raise UsageError(
        f'expected 0.04 s of sound or more, got {waveform.shape[-1]} samples'
      )
    rows = np.atleast_2d(waveform)[:, :samples]
    tokens = self.tokenizer.encode(rows)
    if waveform.ndim == 1:
      tokens = {stream: codes[0] for stream, codes in tokens.items()}
    return tokens

  def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
    """MuLan's embeddings of texts, unit length.

    Returns:
      float32 [D] of a text, [N, D] of a list.

    Raises:
      UsageError: If there is no text.
    """
    found = self.tokenizer.embed_text(inputs.read_texts(texts))
    return found[0] if isinstance(texts, str) else found

  def embed_audio(self, audio: Audio) -> np.ndarray:
    """MuLan's embeddings of music, unit length: the mean over its windows.

    Args:
      audio: Path of a sound file, or float [S] or [B, S] at 24 kHz; repeated
        where it is shorter than a window.

    Returns:
      float32 [D], or [B, D].

    Raises:
      UsageError: If it is no sound.
    """
    waveform = inputs.read_audio(audio)
    found = self.tokenizer.embed_audio(np.atleast_2d(waveform))
    return found[0] if waveform.ndim == 1 else found

  def search(
    self,
    folder: str | os.PathLike,
    text: str,
    top: int = 10,
    progress: ProgressCallback | None = None,
  ) -> list[tuple[str, float]]:
    """Finds the songs of a folder that a sentence fits best.

    Args:
      folder: Sound files at any depth; it keeps an index, so that a later
        search embeds only what is new.
      text: What to look for.
      top: Songs to return.
      progress: Takes events of the songs that are embedded.

    Returns:
      (name below the folder, cosine in [-1, 1]), the best first.

    Raises:
      UsageError: If there is no text or no sound, or another run is making
        the index.
    """
    text = inputs.read_text(
      text, 'say what to look for, such as --text="slow piano"'
    )
    if not isinstance(top, numbers.Integral) or top < 1:
      raise UsageError(f'--top={top!r}: choose a whole number from 1')
    folder = paths.local(folder)
    songs = AudioFolder(folder, 'all')
    for line in self.tokenizer.remarks(text):
      self._warn(line)
    embedder = song_search.SongEmbedder.of(self.tokenizer)
    index = song_search.update_index(
      songs, folder, embedder, self._report, progress
    )
    return song_search.rank(self.tokenizer, text, index)[:top]

  @functools.cached_property
  def tokenizer(self) -> tokenizers.Tokenizer:
    """What makes tokens and embeddings of batches of one shape."""
    return tokenizers.load(self.bundle.path, self.networks)

  @functools.cached_property
  def _generator(self) -> Generator:
    guessing = self._drafts and drafts.read(
      paths.local(self._drafts), self.networks, self.bundle.contract
    )
    return Generator(self.networks, self._weights, guessing or None)

  @property
  def parallel_sha256(self) -> str | None:
    """Of the weights of the parallel LM, where there is one."""
    if 'parallel' not in self.networks:
      return None
    return self.networks['parallel'].sha256

  def _metadata(self, asked: Request) -> dict[str, Any]:
    """What the music depends on, and words of prompts that are not known."""
    facts = asked.metadata()
    unknown = [
      [self.tokenizer.unknown_words(text) for text in prompts.texts(prompt)]
      for prompt in asked.prompts
    ]
    # They are not told of a bundle without the words of its captions.
    if not any(None in words for words in unknown):
      facts['unknown_words'] = [
        {name: near for one in words for name, near in one.items()}
        for words in unknown
      ]
    if self._weights != 'float32':
      facts['weights'] = self._weights
    if self.parallel_sha256:
      facts['parallel'] = self.parallel_sha256
    return facts | {
      'bundle_sha256': self.bundle.sha256,
      'versions': provenance.versions(),
    }
