"""What music is conditioned on, given window by window.

A piece has one `Conditioning`. A stage of the generator asks it for the tokens
of each of its windows, so that texts can change with time.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from musiclm_jax.cascade import inputs
from musiclm_jax.cascade.bundle import Bundle
from musiclm_jax.cascade.inputs import SAMPLE_RATE, Audio
from musiclm_jax.cascade.tokenizer import SEMANTIC_FRAME_RATE, Tokenizer
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenSpec
from musiclm_jax.token_lm.language_model import UNKNOWN
from musiclm_jax.token_lm.layout import Layout

_TICK_SECONDS = 1 / SEMANTIC_FRAME_RATE  # all changes fall on semantic frames


@dataclasses.dataclass(frozen=True)
class Melody:
  """A melody that music follows: a hummed waveform -> tokens of any time.

  Music that is longer than the melody gets it again from its beginning, as if
  it had been hummed on and on: a crop without a whole melody is nothing that
  the language models have met.

  Attributes:
    waveform: float32 [S] at 24 kHz; see `inputs.read_melody`.
    spec: Of its tokens.
    tokenizer: With the networks of the melody.
  """

  waveform: np.ndarray
  spec: TokenSpec
  tokenizer: Tokenizer

  @property
  def seconds(self) -> float:
    """Its length, after which it begins again."""
    return len(self.waveform) / SAMPLE_RATE

  def at(self, start_seconds: float, num_windows: int) -> np.ndarray:
    """Encodes the windows of a stretch of the music.

    Args:
      start_seconds: When the stretch begins in the music.
      num_windows: How many windows it has.

    Returns:
      int32 [num_windows, Q].
    """
    window = round(self.spec.window_seconds * SAMPLE_RATE)
    hop = round(SAMPLE_RATE / self.spec.frame_rate)
    samples = (num_windows - 1) * hop + window
    places = round(start_seconds * SAMPLE_RATE) + np.arange(samples)
    stretch = self.waveform[places % len(self.waveform)]
    return self.tokenizer.encode_melody(stretch[None])[0]


def read_melody(
  audio: Audio | None,
  bundle: Bundle,
  tokenizer: Tokenizer,
  stages: Sequence[str],
  report: Callable[[str], None],
) -> Melody | None:
  """Reads a melody and says what becomes of it, or of there being none.

  Args:
    audio: Path of a sound file, or float [S] at 24 kHz.
    bundle: Whose tokens may be those of melodies too.
    tokenizer: With the networks of the melody, where there are such.
    stages: Those that follow it.
    report: Takes the line.

  Raises:
    UsageError: If it is no sound, silent, or shorter than a window, or the
      bundle knows no melodies.
  """
  spec = bundle.contract.streams.get('melody')
  if audio is None:
    if spec and stages:
      report('no --melody: the language models choose the melody')
    return None
  if not spec:
    raise UsageError(
      f"bundle '{bundle.path}' has no melody networks: leave --melody out, or "
      'train melody and melody_rvq before the tokens are made'
    )
  waveform = inputs.read_melody(audio, spec.window_seconds)
  melody = Melody(waveform, spec, tokenizer)
  report(
    f'melody of {melody.seconds:.1f} s, then again from its beginning, '
    'followed by ' + (' and '.join(stages) or 'no stage')
  )
  return melody


@dataclasses.dataclass(frozen=True)
class Conditioning:
  """What a batch of pieces is conditioned on.

  Attributes:
    mulan: MuLan tokens of texts or of audio, int [B, 12], `UNKNOWN` where a
      level shall not be read.
    melody: The same for all pieces; None leaves the melody to the models.
    later: What takes the place of `mulan` from a second on: such pairs, the
      seconds rising.
    negative: MuLan tokens that guidance pushes away from, int [B, 12]; None:
      from no tokens.
  """

  mulan: np.ndarray
  melody: Melody | None = None
  later: tuple[tuple[float, np.ndarray], ...] = ()
  negative: np.ndarray | None = None

  def __len__(self) -> int:
    """The number of pieces, B."""
    return len(self.mulan)

  def padded(self, rows: int) -> 'Conditioning':
    """Of so many pieces, as the last one again and again."""

    def pad(codes: np.ndarray) -> np.ndarray:
      return np.pad(codes, ((0, rows - len(codes)), (0, 0)), 'edge')

    return dataclasses.replace(
      self,
      mulan=pad(self.mulan),
      later=tuple((second, pad(codes)) for second, codes in self.later),
      negative=None if self.negative is None else pad(self.negative),
    )

  @property
  def changes(self) -> tuple[float, ...]:
    """The seconds at which other MuLan tokens begin."""
    return tuple(second for second, _ in self.later)

  def at(
    self, start_seconds: float, layout: Layout, new_seconds: float | None = None
  ) -> dict[str, np.ndarray]:
    """Tells the tokens of a window.

    Args:
      start_seconds: When the window begins in the music.
      layout: Of the stage, which says which streams it reads and how many
        frames of each; those of earlier stages are not told here.
      new_seconds: When what it adds begins, which says which text is its own;
        None: where it begins itself.

    Returns:
      Stream -> int32 [B, ...]: `mulan` [B, 12], `negative` [B, 12] where there
      are such, and `melody` [B, N, Q] where the layout reads one, masked where
      none is known.
    """
    new_seconds = start_seconds if new_seconds is None else new_seconds
    mulan = self.mulan
    for second, others in self.later:
      if second <= new_seconds + _TICK_SECONDS / 2:
        mulan = others
    tokens = {'mulan': np.asarray(mulan, np.int32)}
    if self.negative is not None:
      tokens['negative'] = np.asarray(self.negative, np.int32)
    if segment := layout.melody:
      shape = (segment.num_frames, segment.num_levels)
      codes = np.full(shape, UNKNOWN, np.int32)
      if self.melody:
        codes = self.melody.at(start_seconds, segment.num_frames)
      tokens['melody'] = np.broadcast_to(codes, (len(self), *shape))
    return tokens
