"""What the cascade makes of prompts, and whether it is music at all.

Artifacts -> P prompts, each with the crop that it describes -> P x R seeds of
clips and as many without a prompt -> `cascade_music` and `audio_sane`. The
ceiling are the prompts' own crops through the codec. What the prompts ask for
is looked for in `prompt_checks.py`, copies in `copy_checks.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.tiny_cascade import gates, music
from experiments.tiny_cascade.artifacts import Artifacts, CorpusSplit, Excerpt
from experiments.tiny_cascade.music import ClipStatistics
from musiclm_jax.cascade.musiclm import Music
from musiclm_jax.contracts.kept_parts import Keep, unkept
from musiclm_jax.metrics import bootstrap

SECONDS = 10.0
PROMPTS_PER_FAMILY = 8
SEEDS = 2
_CAPTION_DRAWS = 50


def is_music(clip: ClipStatistics) -> bool:
  """The gate's words: >= 3 distinct pitches and >= 0.5 onsets a second."""
  return clip.distinct_pitches >= 3 and clip.onsets_per_second >= 0.5


def is_sane(clip: ClipStatistics) -> bool:
  """No NaN, peak <= 1, RMS in [-40, -6] dBFS, neither silence nor noise."""
  return (
    clip.finite
    and clip.peak <= 1.0
    and -40.0 <= clip.rms_dbfs <= -6.0
    and clip.flatness <= 0.25
  )


@dataclasses.dataclass(frozen=True)
class Prompts:
  """Held-out captions and the crops that they describe, P of each.

  Attributes:
    texts: Sentences that state lead family and tempo.
    stated: Attribute -> value of each, such as the sentence names.
    crops: Of the test split, of different pieces.
    tempi: Tempo class of each crop: `slow`, `medium` or `fast`.
  """

  texts: Sequence[str]
  stated: Sequence[dict[str, Any]]
  crops: Sequence[Excerpt]
  tempi: Sequence[str]

  def __len__(self) -> int:
    """Counts the prompts."""
    return len(self.texts)

  @property
  def families(self) -> list[str]:
    """The lead family that each asks for."""
    return [stated['lead_family'] for stated in self.stated]


def choose_prompts(split: CorpusSplit, seed: int, of_each: int) -> Prompts:
  """Held-out captions that state lead family and tempo, by family.

  Of each family `of_each`, or as many as there are. None asks for silence,
  which has no lead.
  """
  rng = np.random.default_rng([seed, 3])
  found: dict[str, list[tuple]] = {}
  for crop in split.crops(SECONDS, 3, 3 * len(split.source)):
    heard = split.attributes(crop)
    family = heard.get('lead_family')
    if not family or len(found.get(family, ())) >= of_each:
      continue
    told = _telling_caption(split, crop, rng)
    if told:
      row = told[0], dict(told[1]), crop, heard['tempo_class']
      found.setdefault(family, []).append(row)
  rows = [row for family in sorted(found) for row in found[family]]
  return Prompts(*map(list, zip(*rows, strict=True)))


def _telling_caption(
  split: CorpusSplit, crop: Excerpt, rng: np.random.Generator
) -> tuple[str, Mapping[str, Any]] | None:
  """A caption that says what leads and how fast; None if none was drawn."""
  for _ in range(_CAPTION_DRAWS):
    caption, stated = split.describe(crop, rng)
    if 'lead_family' in stated and {'bpm', 'tempo_class'} & stated.keys():
      return caption, stated
  return None


@dataclasses.dataclass(frozen=True)
class Generated:
  """What the cascade made of the prompts.

  Attributes:
    prompts: P of them.
    waveforms: [P, R, S].
    semantic: [P, R, Ts].
    acoustic: [P, R, Ta, Q].
    unconditional: Clips without prompt [P, S].
    text_codes: MuLan tokens of the prompts [P, 12].
    real: The crop that each prompt describes [P, S].
    coded: The same through the codec [P, S].
  """

  prompts: Prompts
  waveforms: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray
  unconditional: np.ndarray
  text_codes: np.ndarray
  real: np.ndarray
  coded: np.ndarray

  @property
  def flat(self) -> np.ndarray:
    """All clips of prompts, [P R, S]."""
    return self.waveforms.reshape(-1, self.waveforms.shape[-1])


def generate(
  artifacts: Artifacts,
  prompts: Prompts,
  seed: int,
  keep: Keep = unkept,
  **sampling: Any,
) -> Generated:
  """Generates every prompt with two seeds, and as many clips without one.

  Args:
    artifacts: With the model.
    prompts: What to play.
    seed: Of the samples.
    keep: Keeps what is finished.
    **sampling: Fields of `SamplingConfig`, in the place of the bundle's.
  """

  def run(number: int, **levels: int) -> Music:
    return artifacts.model.generate(
      list(prompts.texts),
      seconds=SECONDS,
      seed=SEEDS * seed + number,
      keep=lambda part, make: keep(f'clips {number} {part}', make),
      **sampling,
      **levels,
    )

  runs = [run(k) for k in range(SEEDS)]
  free = run(SEEDS, mulan_levels=0)
  split = artifacts.test
  real = np.stack([split.read(crop) for crop in prompts.crops])
  return Generated(
    prompts=prompts,
    waveforms=np.stack([run.waveform for run in runs], axis=1),
    semantic=np.stack([run.tokens['semantic'] for run in runs], axis=1),
    acoustic=np.stack([run.tokens['acoustic'] for run in runs], axis=1),
    unconditional=free.waveform,
    text_codes=free.tokens['mulan'],
    real=real,
    coded=artifacts.codec.through(real).clip(-1.0, 1.0),  # as sound is
  )


def equal_tokens(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Share of equal tokens position by position, [P, T] x 2 -> [P]."""
  return (np.asarray(first) == np.asarray(second)).mean(axis=1)


def music_gate(
  clips: Sequence[Sequence[ClipStatistics]],
  ceiling: Sequence[ClipStatistics],
  seed_agreement: np.ndarray,
) -> gates.Gate:
  """`cascade_music`: as often music as what the codec leaves of real music.

  Nine times in ten at least, by the lower bound; no dead air; seeds differ.

  Args:
    clips: Statistics per prompt and seed [P][R].
    ceiling: Of the crops that the prompts describe, through the codec [P].
    seed_agreement: `equal_tokens` of two seeds, per prompt [P].
  """
  shares = [np.mean([is_music(clip) for clip in row]) for row in clips]
  least = gates.SMALLEST_CEILING_SHARE * np.array(
    [is_music(clip) for clip in ceiling], float
  )
  margin = bootstrap.difference(shares, least)
  dead = dead_air(clips)
  agreement = bootstrap.mean(seed_agreement)
  return gates.make(
    'cascade_music',
    margin.shifted(float(least.mean())),
    float(least.mean()),
    {
      '>= 3 pitches and >= 0.5 onsets/s, 0.9 times as often as in real music '
      'through the codec': margin.low >= 0 < least.mean(),
      '<= 10 % of 100 ms frames below -60 dBFS': dead.high
      <= gates.LARGEST_DEAD_SHARE,
    },
    machinery={
      'two seeds share <= 50 % of semantic tokens': agreement.high
      <= gates.LARGEST_SEED_AGREEMENT,
    },
  )


def dead_air(clips: Sequence[Sequence[ClipStatistics]]) -> bootstrap.Interval:
  """Share of frames below -60 dBFS, bounds over prompts [P][R]."""
  return bootstrap.mean(
    [np.mean([clip.dead_share for clip in row]) for row in clips]
  )


def sane_gate(clips: Sequence[Sequence[ClipStatistics]]) -> gates.Gate:
  """`audio_sane`: every clip is finite, in range, and neither silence, noise.

  Args:
    clips: Statistics per prompt and seed [P][R].
  """
  flat = [clip for row in clips for clip in row]
  shares = [np.mean([is_sane(clip) for clip in row]) for row in clips]
  machinery = {
    'no NaN': all(clip.finite for clip in flat),
    'peak <= 1': all(clip.peak <= 1.0 for clip in flat),
  }
  conditions = {
    'RMS between -40 and -6 dBFS': all(
      -40.0 <= clip.rms_dbfs <= -6.0 for clip in flat
    ),
    'not noise (flatness)': all(clip.flatness <= 0.25 for clip in flat),
  }
  return gates.make(
    'audio_sane', bootstrap.mean(shares), 1.0, conditions, machinery=machinery
  )


def music_figures(clips: Sequence[Sequence[ClipStatistics]]) -> dict:
  """Means and extremes of the clips' statistics, for the report."""
  flat = [dataclasses.asdict(clip) for row in clips for clip in row]
  out = {}
  for name in (
    *('rms_dbfs', 'flatness', 'distinct_pitches', 'onsets_per_second'),
    'dead_share',
  ):
    values = [clip[name] for clip in flat]
    out[name] = {
      'mean': np.mean(values),
      'low': np.min(values),
      'high': np.max(values),
    }
  return out


def music_gates(made: Generated) -> tuple[list[gates.Gate], dict]:
  """`cascade_music` and `audio_sane`, beside held-out music."""
  clips = [[music.measure(clip) for clip in row] for row in made.waveforms]
  same = equal_tokens(made.semantic[:, 0], made.semantic[:, 1])
  real, coded, free = (
    [music.measure(clip) for clip in side]
    for side in (made.real, made.coded, made.unconditional)
  )
  found = [music_gate(clips, coded, same), sane_gate(clips)]
  sides = {'held_out': real, 'through_codec': coded, 'unconditional': free}
  return found, {
    'cascade_music': {
      **music_figures(clips),
      'music': bootstrap.mean(
        [np.mean([is_music(clip) for clip in row]) for row in clips]
      ),
      'dead_air': dead_air(clips),
      **{
        name: {
          'music': float(np.mean([is_music(clip) for clip in side])),
          'dead_air': float(np.mean([clip.dead_share for clip in side])),
        }
        for name, side in sides.items()
      },
      'equal_tokens_of_two_seeds': same,
    }
  }
