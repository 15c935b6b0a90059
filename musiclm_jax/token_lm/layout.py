"""The sequences: which streams an LM reads and which it predicts.

semantic: MuLan 12 | [melody] | semantic                 -> semantic
coarse:   MuLan 12 | [melody] | semantic | acoustic 1-4  -> acoustic 1-4
fine:     MuLan 12 | acoustic 1-4 | acoustic 5-12        -> acoustic 5-12
parallel: MuLan 12 | semantic | acoustic 1-12            -> acoustic 1-12

The paper's ablation is a coarse LM without semantic tokens.
The melody is 24 tokens of each window of 4 s, one every 3 s (App. C).
Codes [B, T, Q] are flattened row-major by time, and each (segment, level) has
vocabulary ids of its own, so the id says what a token is (MusicLM §3.2).
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from musiclm_jax.contracts.array_types import Codes, Tokens
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenSpec

TICK_RATE = 25.0  # Hz of the time axis that segments of two rates share
# Streams whose tokens can be dropped in every LM that reads them; each has a
# mask that takes their place.
DROPPED = ('mulan', 'melody')


@dataclasses.dataclass(frozen=True)
class Segment:
  """One stretch of the sequence, some levels of one stream.

  Attributes:
    stream: Key in a batch: `mulan`, `melody`, `semantic` or `acoustic`.
    first_level: Of the stream's levels, the first that the segment takes.
    num_levels: How many it takes, Q.
    codebook_size: Entries per level, K.
    num_frames: Frames in a crop, T.
    frame_rate: Frames per second; 0.0 for a stream outside time.
    window_seconds: See `TokenSpec`.
    whole: Whether it takes both coarse and fine levels.
  """

  stream: str
  first_level: int
  num_levels: int
  codebook_size: int
  num_frames: int
  frame_rate: float
  window_seconds: float | None = None
  whole: bool = False

  @property
  def num_tokens(self) -> int:
    """Tokens in a crop."""
    return self.num_frames * self.num_levels

  @property
  def vocabulary_size(self) -> int:
    """Ids that belong to the segment."""
    return self.num_levels * self.codebook_size


@dataclasses.dataclass(frozen=True)
class Layout:
  """A sequence of segments; the first is MuLan, the last is predicted.

  Attributes:
    segments: In the order of the sequence.
    droppable: Streams whose tokens can be dropped where they condition.
  """

  segments: tuple[Segment, ...]
  droppable: tuple[str, ...] = DROPPED

  @property
  def predicted(self) -> Segment:
    """The segment that the LM learns to continue."""
    return self.segments[-1]

  @property
  def mulan(self) -> Segment:
    """The segment of MuLan tokens: what the music is like."""
    return self.segments[0]

  @property
  def melody(self) -> Segment | None:
    """The segment of the melody that conditions it, or None."""
    return next((s for s in self.segments if s.stream == 'melody'), None)

  @property
  def num_tokens(self) -> int:
    """Tokens of the whole sequence."""
    return sum(segment.num_tokens for segment in self.segments)

  @property
  def num_conditioning(self) -> int:
    """Tokens before the predicted segment."""
    return self.num_tokens - self.predicted.num_tokens

  @property
  def vocabulary_size(self) -> int:
    """Ids of all segments and the masks, which come last."""
    return self.offset(len(self.segments)) + len(self.dropped)

  def mask_id(self, stream: str) -> int:
    """The id that stands for a dropped token of a stream of `dropped`."""
    return self.offset(len(self.segments)) + self.dropped.index(stream)

  @property
  def dropped(self) -> list[str]:
    """The streams that it reads and whose tokens can be dropped."""
    streams = [segment.stream for segment in self.segments[:-1]]
    return [stream for stream in self.droppable if stream in streams]

  def offset(self, index: int) -> int:
    """The first id of a segment."""
    return sum(s.vocabulary_size for s in self.segments[:index])

  @property
  def predicted_offset(self) -> int:
    """The first id of the predicted segment."""
    return self.offset(len(self.segments) - 1)

  def key_ticks(self) -> np.ndarray:
    """The time of each conditioning token, int32 [num_conditioning].

    Segments of two rates share ticks of 40 ms, counted from 0: semantic frame
    10 and acoustic frame 20 have the same one. The time of a melody window is
    its beginning. -1 is outside time.
    """
    return np.concatenate([_ticks(s) for s in self.segments[:-1]])

  def query_ticks(self) -> np.ndarray:
    """The time of the token that each position predicts, int32 [N].

    Positions that predict nothing have -1.
    """
    ticks = np.full(self.num_tokens, -1, np.int32)
    ticks[self.num_conditioning - 1 : -1] = _ticks(self.predicted)
    return ticks


def _ticks(segment: Segment) -> np.ndarray:
  """The tick of each of a segment's tokens."""
  frames = np.repeat(np.arange(segment.num_frames), segment.num_levels)
  if segment.frame_rate == 0.0:
    return np.full(frames.shape, -1, np.int32)
  ratio = TICK_RATE / segment.frame_rate
  return np.floor(frames * ratio + 1e-6).astype(np.int32)


def flatten_codes(codes: Codes, offset: int, codebook_size: int) -> Tokens:
  """Lays codes out as one row of vocabulary ids.

  Time is major and levels minor: frame t holds tokens t*Q … t*Q + Q-1, and
  level q's ids start at offset + q * codebook_size (AudioLM §3.3).

  Args:
    codes: [B, T, Q] in [0, codebook_size).
    offset: The segment's first id.
    codebook_size: Entries per level, K.

  Returns:
    [B, T*Q] ids in [offset, offset + Q*K).
  """
  levels = jnp.arange(codes.shape[2]) * codebook_size
  return (codes + levels + offset).reshape(codes.shape[0], -1)


def make_layout(
  stage: str,
  *,
  crop_seconds: float,
  mulan_levels: int,
  mulan_codebook_size: int,
  semantic_codebook_size: int,
  semantic_frame_rate: float,
  acoustic_levels: int,
  acoustic_codebook_size: int,
  acoustic_frame_rate: float,
  coarse_levels: int,
  semantic: bool = True,
  semantic_mask: bool = False,
  melody: bool = False,
  melody_levels: int = 24,
  melody_codebook_size: int = 512,
  melody_window_seconds: float = 4.0,
  melody_hop_seconds: float = 3.0,
) -> Layout:
  """Builds the layout of a stage for crops of a given length.

  Args:
    stage: `semantic`, `coarse`, `fine` or `parallel`.
    crop_seconds: What a sequence spans.
    mulan_levels: Of the MuLan RVQ, one frame a clip.
    mulan_codebook_size: Entries per level.
    semantic_codebook_size: Clusters of the k-means.
    semantic_frame_rate: In Hz.
    acoustic_levels: Of the codec's RVQ.
    acoustic_codebook_size: Entries per level.
    acoustic_frame_rate: In Hz.
    coarse_levels: Acoustic levels 1..coarse_levels are coarse, others fine.
    semantic: Whether `coarse` reads semantic tokens; the paper's ablation has
      no semantic stage.
    semantic_mask: Whether `coarse` and `parallel` can do without their
      semantic tokens.
    melody: Whether `semantic` and `coarse` read a melody after MuLan's tokens.
    melody_levels: Of the melody's RVQ.
    melody_codebook_size: Entries per level.
    melody_window_seconds: What one embedding covers.
    melody_hop_seconds: From window to window.

  Raises:
    UsageError: If a crop is not a whole number of frames, or too short for a
      melody, or the acoustic levels are not shared among coarse and fine.
    KeyError: If there is no such stage.
  """

  def segment(stream, size, levels, rate, first=0, window=None):
    frames = TokenSpec(size, levels, rate, window).num_frames(crop_seconds)
    return Segment(stream, first, levels - first, size, frames, rate, window)

  def acoustic(levels, first=0):
    size, rate = acoustic_codebook_size, acoustic_frame_rate
    return segment('acoustic', size, levels, rate, first)

  conditioning = [segment('mulan', mulan_codebook_size, mulan_levels, 0.0)]
  if melody and stage in ('semantic', 'coarse'):
    windows = segment(
      'melody',
      melody_codebook_size,
      melody_levels,
      1 / melody_hop_seconds,
      window=melody_window_seconds,
    )
    conditioning.append(windows)
    if not windows.num_frames:
      raise UsageError(
        f'crops of {crop_seconds} s are too short for a melody, which is read '
        f'in windows of {melody_window_seconds} s: raise '
        '--config.data.crop_seconds, or leave --config.layout.melody out'
      )
  if stage in ('coarse', 'fine') and not 0 < coarse_levels < acoustic_levels:
    raise UsageError(
      f'--config.layout.coarse_levels={coarse_levels}: of {acoustic_levels} '
      f'acoustic levels choose 1 to {acoustic_levels - 1}, so that coarse and '
      'fine have some each'
    )
  tokens = segment('semantic', semantic_codebook_size, 1, semantic_frame_rate)
  coarse = acoustic(coarse_levels)
  fine = acoustic(acoustic_levels, first=coarse_levels)
  whole = dataclasses.replace(acoustic(acoustic_levels), whole=True)
  segments = {
    'semantic': (tokens,),
    'coarse': (tokens, coarse) if semantic else (coarse,),
    'fine': (coarse, fine),
    'parallel': (tokens, whole),
  }
  droppable = (*DROPPED, 'semantic') if semantic_mask else DROPPED
  return Layout((*conditioning, *segments[stage]), droppable)
