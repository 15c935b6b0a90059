"""The token contract: what every hand-over between stages must agree on.

It is stored with token stores, checkpoints and bundles; `check` compares two
of them and names the first field that differs.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from musiclm_jax.contracts.errors import UsageError

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class TokenSpec:
  """One token stream.

  Attributes:
    codebook_size: Entries per level, K; legal ids are [0, K).
    num_levels: Quantizer levels, Q; 1 for k-means tokens.
    frame_rate: Frames per second; 0.0 where a whole clip has one frame.
    window_seconds: What one frame describes, where windows overlap; None where
      frames tile the clip.
  """

  codebook_size: int
  num_levels: int
  frame_rate: float
  window_seconds: float | None = None

  def divides(self, seconds: float) -> bool:
    """Tells whether a clip can be cut into frames without a rest.

    Windows that overlap may leave one, which none of them describes.
    """
    frames = seconds * self.frame_rate
    return self.window_seconds is not None or abs(frames - round(frames)) < 1e-6

  def num_frames(self, seconds: float) -> int:
    """Frames of a clip; a fraction of a frame is refused.

    Of windows that overlap those that lie in the clip as a whole: with 4 s
    every 3 s 3 in 10 s, none in 3 s.

    Raises:
      UsageError: If the clip is not a whole number of frames long.
    """
    if self.frame_rate == 0.0:
      return 1
    if self.window_seconds is not None:
      more = (seconds - self.window_seconds) * self.frame_rate
      return max(math.floor(more + 1e-6) + 1, 0)
    frames = seconds * self.frame_rate
    if not self.divides(seconds):
      raise UsageError(
        f'{seconds} s are {frames} frames at {self.frame_rate} Hz: choose a '
        f'length that is a multiple of {1 / self.frame_rate} s'
      )
    return round(frames)


@dataclasses.dataclass(frozen=True)
class TokenContract:
  """Everything that gives a token its meaning.

  Attributes:
    sample_rate: Of the waveform that the tokens describe, in Hz.
    streams: Token specs of `mulan`, `semantic` and `acoustic`, and of `melody`
      where its networks took part.
    coarse_levels: Acoustic levels 1..coarse_levels are coarse, others fine.
    mulan_audio_mean: Mean audio embedding, subtracted before the RVQ [D].
    mulan_text_mean: Mean text embedding, subtracted before the RVQ [D].
    networks: Stage name -> SHA-256 of the parameters that make the tokens:
      of a codec its encoder and codebooks.
    schema_version: Of this record.
  """

  sample_rate: int
  streams: Mapping[str, TokenSpec]
  coarse_levels: int
  mulan_audio_mean: tuple[float, ...]
  mulan_text_mean: tuple[float, ...]
  networks: Mapping[str, str]
  schema_version: int = SCHEMA_VERSION

  def to_json(self) -> str:
    """The contract as canonical JSON (sorted keys): equal iff it is equal.

    What is None is left out, as where it was not known yet.
    """
    fields = dataclasses.asdict(
      self,
      dict_factory=lambda items: {k: v for k, v in items if v is not None},
    )
    return json.dumps(fields, sort_keys=True, indent=1)

  @classmethod
  def read(cls, file: Path) -> 'TokenContract':
    """Reads a file that holds what `to_json` wrote.

    Raises:
      UsageError: As `from_json`, naming the file.
    """
    try:
      return cls.from_json(file.read_text(encoding='utf-8', errors='replace'))
    except UsageError as error:
      raise UsageError(f'{file}: {error}') from error

  @classmethod
  def from_json(cls, text: str) -> 'TokenContract':
    """Reads what `to_json` wrote.

    Raises:
      UsageError: If the text is no contract or of another schema version.
    """
    try:
      fields = json.loads(text)
      version = fields['schema_version']
      if version != SCHEMA_VERSION:
        raise UsageError(
          f'token contract has schema_version {version}, this release reads '
          f'{SCHEMA_VERSION}: make the tokens or the bundle again'
        )
      fields['streams'] = {
        name: TokenSpec(**spec) for name, spec in fields['streams'].items()
      }
      for mean in ('mulan_audio_mean', 'mulan_text_mean'):
        fields[mean] = tuple(fields[mean])
      return cls(**fields)
    except (AttributeError, ValueError, KeyError, TypeError) as error:
      raise UsageError(f'not a token contract: {error!r}') from error

  def check(self, other: 'TokenContract', here: str, there: str) -> None:
    """Refuses a hand-over between two parties that disagree.

    Args:
      other: The contract of the other party.
      here: What carries this contract, for the message.
      there: What carries the other one.

    Raises:
      UsageError: Naming the first field that differs, with both values.
    """
    from flax.traverse_util import flatten_dict  # data may not load jax

    mine, its = (
      flatten_dict(json.loads(each.to_json()), sep='.')
      for each in (self, other)
    )
    # Means follow from networks, and are 128 numbers to read.
    fields = mine.keys() | its.keys()
    for field in sorted(fields, key=lambda name: ('mean' in name, name)):
      if mine.get(field) != its.get(field):
        raise UsageError(
          f'token contract differs in {field}: {here} has '
          f'{mine.get(field, "nothing")}, {there} has '
          f'{its.get(field, "nothing")}; use parts that were made together'
        )
