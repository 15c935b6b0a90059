"""A request: all that one call of `MusicLM.generate` asks for, checked."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.cascade import inputs, prompts
from musiclm_jax.cascade.conditioning import Conditioning, Melody
from musiclm_jax.cascade.inputs import Audio
from musiclm_jax.cascade.prompts import (
  Prompt,
  PromptEncoder,
  Section,
  SoundPrompt,
)
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.tokenizer import Tokenizer
from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.token_lm.language_model import UNKNOWN

MOST_TAKES = 64
_SEEDS = bounds.SEED[1] + 1


@dataclasses.dataclass(frozen=True)
class Request:
  """What to make.

  Attributes:
    prompts: Of B pieces.
    is_one: Whether it is one piece and no list of them.
    seconds: Length.
    seed: Of the first take.
    sampling: How to draw.
    all_levels: Levels of MuLan's RVQ that a sound as prompt is read with.
    first_row: Number of the first piece, which decides what is drawn.
    melody: That all pieces follow.
    recording: That all pieces continue.
    negative: A text that guidance pushes away from.
    takes: Of each piece; the best one is chosen.
  """

  prompts: Sequence[Prompt]
  is_one: bool
  seconds: float
  seed: int
  sampling: SamplingConfig
  all_levels: int
  first_row: int = 0
  melody: Audio | None = None
  recording: Audio | None = None
  negative: str | None = None
  takes: int = 1

  def __post_init__(self) -> None:
    """Refuses what cannot be made.

    Raises:
      UsageError: Saying what to change.
    """
    inputs.check_seconds(self.seconds)
    inputs.check_seed(self.seed)
    inputs.check_whole('--best_of', self.takes, (1, MOST_TAKES))
    inputs.check_whole('first_row', self.first_row, bounds.SEED)
    for prompt in self.prompts:
      prompts.check_times(prompt, self.seconds)
    # Windows begin where texts change, and a piece shall not depend on others.
    if len({_starts(prompt) for prompt in self.prompts}) > 1:
      raise UsageError(
        'stories that are made together must have the same starts: make them '
        'one at a time'
      )
    if self.negative is not None:
      inputs.read_text(
        self.negative, 'say what to avoid, such as "drums"', '--negative'
      )
      if not any(scale > 1 for scale in self.sampling.guidances.values()):
        raise UsageError(
          '--negative needs guidance, which is off: give --guidance=3'
        )

  @property
  def texts(self) -> list[str]:
    """All texts that it holds."""
    found = [text for prompt in self.prompts for text in prompts.texts(prompt)]
    return found if self.negative is None else [*found, self.negative]

  @property
  def seeds(self) -> list[tuple[int, int]]:
    """Seed and number of each row, the first take of all pieces first.

    Take k is what `seed + k` makes of the same piece.
    """
    rows = range(self.first_row, self.first_row + len(self.prompts))
    return [
      ((int(self.seed) + take) % _SEEDS, int(row))
      for take in range(self.takes)
      for row in rows
    ]

  def read_recording(self) -> np.ndarray | None:
    """Reads what is continued, float32 [R].

    Raises:
      UsageError: If it is no sound, or as long as all of the music.
    """
    if self.recording is None:
      return None
    waveform = inputs.read_clip(self.recording, 'the recording')
    seconds = len(waveform) / SAMPLE_RATE
    if len(waveform) >= round(self.seconds * SAMPLE_RATE):
      raise UsageError(
        f'--seconds={self.seconds:g}: the recording alone has {seconds:.2f} s; '
        'give the length of the whole, which must be more'
      )
    return waveform

  def metadata(self) -> dict[str, Any]:
    """What the music depends on, as JSON."""
    facts = {'prompts': [prompts.to_json(p) for p in self.prompts]}
    if self.melody is not None:
      facts |= prompts.sound_facts('melody', self.melody)
    if self.recording is not None:
      facts |= prompts.sound_facts('continued', self.recording)
    if self.negative is not None:
      facts['negative'] = self.negative
    if self.takes > 1:
      facts['best_of'] = self.takes
    leaves = [part for p in self.prompts for part in prompts.leaves(p)]
    if any(isinstance(part, SoundPrompt) for part in leaves):
      facts['sound_levels'] = self.all_levels
    if self.first_row:
      facts['first_row'] = int(self.first_row)
    return facts | {
      'seed': int(self.seed),
      'seconds': float(self.seconds),
      'settings': dataclasses.asdict(self.sampling),
    }

  def remarks(self, tokenizer: Tokenizer) -> Iterator[str]:
    """Says what of it changes nothing."""
    if self.sampling.mulan_levels == 0 and self.texts:
      yield ('no MuLan level is used: the text changes nothing, the seed does')
    for text in self.texts:
      yield from tokenizer.remarks(text)

  def encoder(self, tokenizer: Tokenizer) -> PromptEncoder:
    """What turns its prompts into tokens."""
    return PromptEncoder(tokenizer, self.sampling.mulan_levels, self.all_levels)

  def conditioning(
    self, encoder: PromptEncoder, melody: Melody | None
  ) -> tuple[np.ndarray, Conditioning, SamplingConfig]:
    """Turns the prompts into what conditions music.

    Returns:
      MuLan tokens of the prompts as they begin, int32 [B, 12]; the conditioning
      of all rows, takes included; and how to draw, with as many levels as the
      prompts use.
    """

    def rows(column: Sequence[Section]) -> tuple[np.ndarray, np.ndarray]:
      """Tokens [B, 12] of a prompt each, and the levels that are read [B]."""
      levels = [encoder.levels(prompt) for prompt in column]
      return np.stack([encoder.tokens(p) for p in column]), np.asarray(levels)

    def masked(tokens: np.ndarray, levels: np.ndarray) -> np.ndarray:
      """The same for all takes, without the levels that are not read."""
      read = np.arange(tokens.shape[1]) < levels[:, None]
      return np.tile(np.where(read, tokens, UNKNOWN), (self.takes, 1))

    stories = [prompts.sections(prompt) for prompt in self.prompts]
    starts = [start for start, _ in stories[0]]  # of all of them
    columns = [
      rows([section for _, section in column])
      for column in zip(*stories, strict=True)
    ]
    begins, *later = (masked(*column) for column in columns)
    negative = None
    if self.negative is not None:
      columns.append(rows([self.negative] * len(stories)))
      negative = masked(*columns[-1])
    levels = max(int(used.max()) for _, used in columns)
    return (
      columns[0][0],
      Conditioning(
        begins, melody, tuple(zip(starts[1:], later, strict=True)), negative
      ),
      dataclasses.replace(self.sampling, mulan_levels=levels),
    )

  def scores(self, encoder: PromptEncoder, waveform: np.ndarray) -> np.ndarray:
    """How well each take [takes * B, S] fits its prompt, [takes, B]."""
    count = len(self.prompts)
    columns = [
      encoder.scores(prompt, waveform[row::count])
      for row, prompt in enumerate(self.prompts)
    ]
    return np.stack(columns, axis=1)


def read(
  asked: Any,
  *,
  recording: Audio | None,
  sampling: SamplingConfig | Mapping[str, Any] | None,
  proposed: SamplingConfig,
  changes: Mapping[str, Any],
  all_levels: int,
  **rest: Any,
) -> Request:
  """Checks what a user asks for.

  Args:
    asked: A prompt or a list of them; None with a recording is its own style.
    recording: To be continued.
    sampling: How to draw, or fields of it; None takes what is proposed.
    proposed: By the bundle.
    changes: More fields.
    all_levels: Of MuLan's RVQ.
    **rest: As of `Request`.

  Raises:
    UsageError: If something is out of bounds.
  """
  if asked is None and recording is not None:
    asked = SoundPrompt(recording)
  found = prompts.read(asked)
  if not isinstance(sampling, SamplingConfig):
    changes = {**(sampling or {}), **changes}
    sampling = proposed
  sampling = sampling.changed(changes)
  sampling.check_levels(all_levels)
  # Who names a number of levels means it for sounds, too.
  levels = changes.get('mulan_levels')
  return Request(
    found,
    isinstance(asked, Prompt),
    sampling=sampling,
    all_levels=all_levels if levels is None else int(levels),
    recording=recording,
    **rest,
  )


def _starts(prompt: Prompt) -> tuple[float, ...]:
  """The seconds with which its sections begin."""
  return tuple(at for at, _ in prompts.sections(prompt))
