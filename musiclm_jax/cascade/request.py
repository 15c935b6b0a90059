"""A request: all that one call of `MusicLM.generate` asks for, checked."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.cascade import inputs, prompts
from musiclm_jax.cascade.conditioning import Conditioning, Melody
from musiclm_jax.cascade.inputs import Audio
from musiclm_jax.cascade.prompts import Prompt, PromptEncoder, SoundPrompt
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.token_lm.language_model import UNKNOWN

MOST_TAKES = 64
_SEEDS = 2**32


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
    inputs.check_count('--best_of', self.takes, MOST_TAKES)
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
  def _parts(self) -> Iterator[str | SoundPrompt]:
    for prompt in self.prompts:
      for _, section in prompts.sections(prompt):
        yield from (part for part, _ in prompts.parts(section))

  @property
  def texts(self) -> Iterator[str]:
    """All texts that it holds."""
    yield from (part for part in self._parts if isinstance(part, str))
    if self.negative is not None:
      yield self.negative

  @property
  def seeds(self) -> list[tuple[int, int]]:
    """Seed and number of each row, the first take of all pieces first.

    Take k is what `seed + k` makes of the same piece.
    """
    rows = range(self.first_row, self.first_row + len(self.prompts))
    return [
      ((self.seed + take) % _SEEDS, row)
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
    if any(isinstance(s, SoundPrompt) for s in self._parts):
      facts['sound_levels'] = self.all_levels
    if self.first_row:
      facts['first_row'] = self.first_row
    return facts | {
      'seed': int(self.seed),
      'seconds': float(self.seconds),
      'settings': dataclasses.asdict(self.sampling),
    }

  def encoder(self, tokenizer: Any) -> PromptEncoder:
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
    used = []

    def masked(prompt) -> np.ndarray:
      tokens, levels = encoder.tokens(prompt), encoder.levels(prompt)
      used.append(levels)
      return np.where(np.arange(len(tokens)) < levels, tokens, UNKNOWN)

    begins = np.stack(
      [encoder.tokens(prompts.sections(p)[0][1]) for p in self.prompts]
    )
    stories = [
      [(at, masked(part)) for at, part in prompts.sections(p)]
      for p in self.prompts
    ]
    rows = {
      sections[0][0]: np.stack([tokens for _, tokens in sections] * self.takes)
      for sections in zip(*stories, strict=True)
    }
    negative = None
    if self.negative is not None:
      tokens = masked(self.negative)
      negative = np.tile(tokens, (len(self.prompts) * self.takes, 1))
    return (
      begins,
      Conditioning(
        rows.pop(0.0), melody, later=tuple(rows.items()), negative=negative
      ),
      dataclasses.replace(self.sampling, mulan_levels=max(used)),
    )

  def scores(self, encoder: PromptEncoder, waveform: np.ndarray) -> np.ndarray:
    """How well each take [takes * B, S] fits its prompt, [takes, B]."""
    rows = [
      encoder.score(self.prompts[row % len(self.prompts)], one)
      for row, one in enumerate(waveform)
    ]
    return np.reshape(rows, (self.takes, -1))


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
