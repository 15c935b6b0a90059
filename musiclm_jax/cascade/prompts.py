"""Prompts: what a piece is asked by -> MuLan tokens.

  'slow piano'                               a text
  SoundPrompt('song.wav')                    music in its style
  Mixture([('jazz', 0.7), ('techno', 0.3)])  several of these, in shares
  Story([(0, 'piano'), (15, 'rock')])        others from a second on

Texts and sounds are mixed as embeddings, each without the mean of its
modality, before they become tokens.
"""

import dataclasses
import hashlib
import itertools
import math
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from musiclm_jax.cascade import inputs
from musiclm_jax.cascade.inputs import Audio
from musiclm_jax.cascade.tokenizer import Tokenizer
from musiclm_jax.contracts import paths
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.embedding import unit

_MAX_STORY_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class SoundPrompt:
  """Music whose style is asked for, in the place of a text.

  Attributes:
    audio: Path of a sound file, or float [S] at 24 kHz.
  """

  audio: Audio

  @property
  def facts(self) -> dict[str, str]:
    """Its name and its SHA-256, as JSON: of the file, or of the samples."""
    return sound_facts('sound', self.audio)


Part = str | SoundPrompt


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Several texts and sounds, each with its share.

  Attributes:
    parts: (text or `SoundPrompt`, weight above 0).
  """

  parts: Sequence[tuple[Part, float]]


Section = Part | Mixture


@dataclasses.dataclass(frozen=True)
class Story:
  """Prompts one after the other.

  Attributes:
    sections: (second from which on, text, `SoundPrompt` or `Mixture`), the
      first at 0 and the seconds rising.
  """

  sections: Sequence[tuple[float, Section]]


Prompt = Section | Story


def read(prompts: Any) -> list[Prompt]:
  """Checks a prompt or a list of at least one.

  Raises:
    UsageError: If there is none, or one is no prompt.
  """
  return [_read_one(prompt) for prompt in inputs.as_list(prompts, Prompt)]


def read_story(file: str | os.PathLike) -> Story:
  """Reads a story: a YAML list of `start`, in seconds, and `text`.

  Raises:
    UsageError: If it is none.
  """
  import yaml

  path = paths.local(file)
  form = 'expected a list of lines such as "- {start: 0, text: slow piano}"'
  try:
    if path.stat().st_size > _MAX_STORY_BYTES:
      raise UsageError(f"--story='{path}' has more than 1 MB: {form}")
    rows = yaml.safe_load(path.read_text(encoding='utf-8'))
  except OSError as error:
    raise UsageError(
      f"--story='{path}' cannot be read ({error.strerror})"
    ) from error
  except (yaml.YAMLError, ValueError, RecursionError) as error:
    problem = str(getattr(error, 'problem', None) or type(error).__name__)
    raise UsageError(
      f"--story='{path}' is no YAML ({problem}): {form}"
    ) from error
  if not isinstance(rows, list) or not rows:
    raise UsageError(f"--story='{path}': {form}")
  for number, row in enumerate(rows, 1):
    if not isinstance(row, dict) or set(row) != {'start', 'text'}:
      raise UsageError(
        f"--story='{path}', entry {number}: it must have start and text, and "
        'nothing else'
      )
  return Story([(row['start'], row['text']) for row in rows])


def read_part(given: str, flag: str) -> tuple[str, float]:
  """Reads `jazz:0.7`, of `--mix` or `--mix_audio`.

  Raises:
    UsageError: If it has no weight above 0 after its last colon.
  """
  what, _, weight = given.rpartition(':')
  try:
    share = float(weight)
  except ValueError:
    share = math.nan
  if not (what.strip() and math.isfinite(share) and share > 0):
    raise UsageError(
      f"--{flag}='{given}': expected what to mix, a colon and a weight above "
      f'0, such as --{flag}="jazz:0.7"'
    )
  return what, share


def check_times(prompt: Prompt, seconds: float) -> None:
  """Refuses a story that goes on after the music has ended.

  Raises:
    UsageError: Naming the start.
  """
  if isinstance(prompt, Story) and (last := prompt.sections[-1][0]) >= seconds:
    raise UsageError(
      f'the story has a start at {last:g} s, the music is {seconds:g} s long: '
      'give a longer --seconds'
    )


def sections(prompt: Prompt) -> list[tuple[float, Section]]:
  """What is asked for from which second on; all of it from 0 but of a story."""
  return list(prompt.sections) if isinstance(prompt, Story) else [(0.0, prompt)]


def parts(prompt: Section) -> list[tuple[Part, float]]:
  """Texts and sounds with their weights, one of weight 1 but of a mix."""
  return list(prompt.parts) if isinstance(prompt, Mixture) else [(prompt, 1.0)]


def leaves(prompt: Prompt) -> Iterator[Part]:
  """All texts and sounds of a prompt."""
  for _, section in sections(prompt):
    yield from (part for part, _ in parts(section))


def texts(prompt: Prompt) -> list[str]:
  """All texts of a prompt."""
  return [part for part in leaves(prompt) if isinstance(part, str)]


def to_json(prompt: Prompt) -> Any:
  """A prompt as JSON, a text as itself, a sound as its name and SHA-256."""
  match prompt:
    case SoundPrompt():
      return prompt.facts
    case Mixture():
      return {'mix': [[to_json(part), weight] for part, weight in prompt.parts]}
    case Story():
      return {'story': [[at, to_json(part)] for at, part in prompt.sections]}
  return prompt


def from_json(record: Any, sounds: Mapping[str, Audio]) -> Prompt:
  """Reads what `to_json` has written.

  Args:
    record: The JSON.
    sounds: SHA-256 -> the sound of it.

  Raises:
    UsageError: If a sound is missing, or it is no prompt.
  """
  match record:
    case str():
      return record
    case {'sound': _, 'sound_sha256': _}:
      return SoundPrompt(find_sound('sound', record, sounds))
    case {'mix': list(rows)}:
      return Mixture(
        [(from_json(part, sounds), weight) for part, weight in rows]
      )
    case {'story': list(rows)}:
      return Story([(at, from_json(part, sounds)) for at, part in rows])
  raise UsageError(f'no prompt: {record!r}')


def sound_facts(name: str, audio: Audio) -> dict[str, str]:
  """Name and SHA-256 of a sound: of its file, or of its samples."""
  if isinstance(audio, str | os.PathLike):
    path = paths.local(audio)
    file, data = path.name, path.read_bytes()
  else:
    file, data = 'waveform', np.asarray(audio, np.float32).tobytes()
  return {name: file, f'{name}_sha256': hashlib.sha256(data).hexdigest()}


def find_sound(
  name: str, record: Mapping[str, Any], sounds: Mapping[str, Audio]
) -> Audio:
  """Finds the sound that `sound_facts` has told of, by its SHA-256.

  Raises:
    UsageError: If it is not among them.
  """
  found = sounds.get(record[f'{name}_sha256'])
  if found is None:
    raise UsageError(
      f"it was made with the sound '{record[name]}', which is not given or has "
      'changed: name it by --sound'
    )
  return found


class PromptEncoder:
  """Turns prompts into embeddings and tokens with MuLan."""

  def __init__(self, tokenizer: Tokenizer, text_levels: int, levels: int):
    """Takes the networks.

    Args:
      tokenizer: With MuLan and its RVQ.
      text_levels: Levels that are read of a prompt that holds a text.
      levels: Levels that are read of sounds alone.
    """
    self._tokenizer = tokenizer
    self._text_levels, self._levels = text_levels, levels

  def embedding(self, prompt: Section) -> np.ndarray:
    """The embedding [D] of a prompt in the space that both modalities share."""
    weighted = [weight * self._centred(part) for part, weight in parts(prompt)]
    return np.asarray(unit(np.sum(weighted, axis=0)))

  def tokens(self, prompt: Section) -> np.ndarray:
    """MuLan tokens, int32 [12]."""
    if isinstance(prompt, str):
      return self._tokenizer.encode_text([prompt])[0]
    return self._tokenizer.encode_centred(self.embedding(prompt)[None])[0]

  def levels(self, prompt: Section) -> int:
    """How many levels of its tokens are read."""
    return self._text_levels if texts(prompt) else self._levels

  def scores(self, prompt: Prompt, takes: np.ndarray) -> np.ndarray:
    """How well music fits its prompt: cosines in that space.

    Args:
      prompt: That it was made for.
      takes: float [N, S] at 24 kHz.

    Returns:
      [N] in [-1, 1]; of a story means over its sections.
    """
    asked = sections(prompt)
    starts = [round(at * SAMPLE_RATE) for at, _ in asked]
    ends = [*starts[1:], takes.shape[1]]
    cosines = []
    for (_, part), start, end in zip(asked, starts, ends, strict=True):
      found = self._tokenizer.embed_audio(takes[:, start:end])
      audio = self._tokenizer.centre(found, 'audio')
      cosines.append(audio @ self.embedding(part))
    return np.mean(cosines, axis=0)

  def _centred(self, part: Part) -> np.ndarray:
    if isinstance(part, str):
      found, modality = self._tokenizer.embed_text([part]), 'text'
    else:
      waveform = inputs.read_clip(part.audio, 'the sound')
      found, modality = self._tokenizer.embed_audio(waveform[None]), 'audio'
    return self._tokenizer.centre(found, modality)[0]


def _read_one(prompt: Any) -> Prompt:
  match prompt:
    case SoundPrompt(audio):
      is_path = isinstance(audio, str | os.PathLike)
      if is_path and not paths.local(audio).is_file():
        inputs.read_audio(audio)  # says what is wrong
      return prompt
    case Mixture(parts=given):
      rows = _pairs(given, 'a mix', 'what, weight')
      return Mixture(
        [(_read_part(part), _weight(share)) for part, share in rows]
      )
    case Story(sections=given):
      rows = _pairs(given, 'a story', 'start, prompt')
      starts = [_start(at) for at, _ in rows]
      _check_starts(starts)
      asked = [_read_section(part) for _, part in rows]
      return Story(list(zip(starts, asked, strict=True)))
  return inputs.read_text(prompt)


def _read_part(part: Any) -> Part:
  if isinstance(part, Mixture | Story):
    raise UsageError('a mix holds texts and sounds, no mixes or stories')
  return _read_one(part)


def _read_section(part: Any) -> Section:
  if isinstance(part, Story):
    raise UsageError('a story holds no stories')
  return _read_one(part)


def _pairs(rows: Any, what: str, form: str) -> list[tuple[Any, Any]]:
  try:
    pairs = [(first, second) for first, second in rows]
  except (TypeError, ValueError):
    pairs = []
  if not pairs:
    raise UsageError(f'{what} is a list of ({form}), got {rows!r}')
  return pairs


def _weight(share: Any) -> float:
  if not (_is_number(share) and share > 0):
    raise UsageError(f'a weight of a mix must be above 0, got {share!r}')
  return float(share)


def _start(at: Any) -> float:
  if not (_is_number(at) and at >= 0):
    raise UsageError(f'a start of a story must be in seconds, got {at!r}')
  return float(at)


def _check_starts(starts: Sequence[float]) -> None:
  if starts[0] != 0:
    raise UsageError(f'the first start of a story must be 0, got {starts[0]:g}')
  for before, after in itertools.pairwise(starts):
    if after <= before:
      raise UsageError(
        f'the starts of a story must rise, got {after:g} after {before:g}'
      )


def _is_number(value: Any) -> bool:
  is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return is_real and math.isfinite(value)
