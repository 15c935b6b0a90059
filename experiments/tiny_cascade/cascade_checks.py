"""Checks of the whole cascade: prompts, music, copies, negative controls.

Artifacts -> P prompts x R seeds of clips -> the `cascade_*` gates,
`negative_controls` and `audio_sane`. Baselines are the unconditional model and
the same clips with the prompts of others.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.tiny_cascade import gates, music, negative_controls
from experiments.tiny_cascade.artifacts import Artifacts, CorpusSplit, Excerpt
from experiments.tiny_cascade.classifiers import Classifiers
from experiments.tiny_cascade.music import ClipStatistics
from musiclm_jax.cascade.musiclm import Music
from musiclm_jax.contracts.kept_parts import Keep, unkept
from musiclm_jax.metrics import bootstrap, memorization

SECONDS = 10.0
PROMPTS_PER_FAMILY = 2
SEEDS = 2
# A span counts as a near copy when it agrees with a training span at more
# positions than this share of the held-out real pieces' spans do.
_HELD_OUT_QUANTILE = 0.95
_CAPTION_DRAWS = 50
_CEILING_CLIPS = 48
_HELD_OUT_PIECES = 160


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
class PromptScores:
  """MuLan text scores, mean cosine(text, audio), per prompt [P].

  The model was conditioned by the same MuLan: this shows that the prompt is
  used, not that the music fits it.

  Attributes:
    own: Of the prompt's own clips.
    shuffled: Of the same clips with the other prompts' texts.
    unconditional: Of the unconditional model's clips with the prompt's text.
  """

  own: np.ndarray
  shuffled: np.ndarray
  unconditional: np.ndarray

  @classmethod
  def measure(
    cls, text: np.ndarray, audio: np.ndarray, unconditional: np.ndarray
  ) -> 'PromptScores':
    """Compares unit embeddings.

    Args:
      text: Of the prompts [P, D].
      audio: Of their clips [P, R, D].
      unconditional: Of any number of clips without prompt [N, D].
    """
    scores = np.einsum('pd,qrd->pq', text, audio) / audio.shape[1]
    own = np.diag(scores)
    others = (scores.sum(axis=0) - own) / (len(text) - 1)
    return cls(own, others, (text @ unconditional.T).mean(axis=1))

  def gate(self) -> gates.Gate:
    """`cascade_prompt`: above the unconditional model and shuffled prompts."""
    baselines = {
      'unconditional model': self.unconditional,
      'shuffled prompts': self.shuffled,
    }
    return _above_all('cascade_prompt', self.own, baselines, {})

  def figures(self) -> dict:
    """Mean scores, for the report."""
    return {
      name: float(values.mean())
      for name, values in dataclasses.asdict(self).items()
    }


@dataclasses.dataclass(frozen=True)
class FamilyHits:
  """How often the classifier names the prompted lead family, per prompt [P].

  Attributes:
    own: In the prompt's own clips.
    shuffled: What the other prompts' clips would score for this prompt.
    unconditional: In the unconditional model's clips.
    families: The prompted families.
  """

  own: np.ndarray
  shuffled: np.ndarray
  unconditional: np.ndarray
  families: Sequence[str]

  @classmethod
  def measure(
    cls,
    prompted: Sequence[str],
    named: Sequence[Sequence[str]],
    unconditional: Sequence[str],
  ) -> 'FamilyHits':
    """Compares what was asked for with what the classifier names.

    Args:
      prompted: Family per prompt [P].
      named: Classifier's family per clip [P][R].
      unconditional: Classifier's family of clips without prompt [N].
    """
    named = np.asarray(named)
    shares = np.array(
      [[(clips == family).mean() for clips in named] for family in prompted]
    )
    own = np.diag(shares)
    others = (shares.sum(axis=1) - own) / (len(prompted) - 1)
    free = np.asarray(unconditional)
    alone = np.array([(free == family).mean() for family in prompted])
    return cls(own, others, alone, list(prompted))

  def gate(self, *, classifier_qualified: bool) -> gates.Gate:
    """`cascade_family`: above both baselines, by a qualified classifier."""
    baselines = {
      'unconditional model': self.unconditional,
      'shuffled prompts': self.shuffled,
    }
    classifier = {'the family classifier is qualified': classifier_qualified}
    return _above_all(
      'cascade_family',
      self.own,
      baselines,
      classifier,
      classes=self.families,
      stage=None if classifier_qualified else 'evaluate',
    )

  def figures(self) -> dict:
    """Mean shares, for the report."""
    return {
      'own': bootstrap.mean(self.own, classes=self.families),
      'shuffled': float(self.shuffled.mean()),
      'unconditional': float(self.unconditional.mean()),
    }


def _above_all(name, own, baselines, conditions, *, classes=None, stage=None):
  """A gate that holds where `own` is above every baseline, prompt by prompt."""
  margins = {
    baseline: bootstrap.difference(own, values, classes=classes)
    for baseline, values in baselines.items()
  }
  conditions = {
    **conditions,
    **{f'above {baseline}': m.low > 0 for baseline, m in margins.items()},
  }
  closest = min(margins, key=lambda baseline: margins[baseline].low)
  chance = bootstrap.balanced_mean(baselines[closest], classes)
  return gates.make(
    name, margins[closest].shifted(chance), chance, conditions, stage=stage
  )


def equal_tokens(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Share of equal tokens position by position, [P, T] x 2 -> [P]."""
  return (np.asarray(first) == np.asarray(second)).mean(axis=1)


def music_gate(
  clips: Sequence[Sequence[ClipStatistics]], seed_agreement: np.ndarray
) -> gates.Gate:
  """`cascade_music`: pitches and onsets in >= 80 % of clips; seeds differ.

  Args:
    clips: Statistics per prompt and seed [P][R].
    seed_agreement: `equal_tokens` of two seeds, per prompt [P].
  """
  shares = [np.mean([is_music(clip) for clip in row]) for row in clips]
  interval = bootstrap.mean(shares)
  agreement = bootstrap.mean(seed_agreement)
  return gates.make(
    'cascade_music',
    interval,
    gates.SMALLEST_MUSIC_SHARE,
    {
      '>= 3 pitches and >= 0.5 onsets/s in >= 80 % of clips': interval.value
      >= gates.SMALLEST_MUSIC_SHARE,
      'two seeds share <= 50 % of semantic tokens': agreement.high
      <= gates.LARGEST_SEED_AGREEMENT,
    },
  )


def sane_gate(clips: Sequence[Sequence[ClipStatistics]]) -> gates.Gate:
  """`audio_sane`: every clip is finite, in range, and neither silence, noise.

  Args:
    clips: Statistics per prompt and seed [P][R].
  """
  flat = [clip for row in clips for clip in row]
  shares = [np.mean([is_sane(clip) for clip in row]) for row in clips]
  conditions = {
    'no NaN': all(clip.finite for clip in flat),
    'peak <= 1': all(clip.peak <= 1.0 for clip in flat),
    'RMS between -40 and -6 dBFS': all(
      -40.0 <= clip.rms_dbfs <= -6.0 for clip in flat
    ),
    'not noise (flatness)': all(clip.flatness <= 0.25 for clip in flat),
  }
  return gates.make('audio_sane', bootstrap.mean(shares), 1.0, conditions)


def music_figures(clips: Sequence[Sequence[ClipStatistics]]) -> dict:
  """Means and extremes of the clips' statistics, for the report."""
  flat = [dataclasses.asdict(clip) for row in clips for clip in row]
  out = {}
  for name in ('rms_dbfs', 'flatness', 'distinct_pitches', 'onsets_per_second'):
    values = [clip[name] for clip in flat]
    out[name] = {
      'mean': np.mean(values),
      'low': np.min(values),
      'high': np.max(values),
    }
  return out


def near_threshold(held_out: memorization.Copying) -> float:
  """Share that all but 5 % of the held-out real spans stay below."""
  return float(np.quantile(held_out.shares, _HELD_OUT_QUANTILE))


def copy_gate(
  generated: memorization.Copying, held_out: memorization.Copying
) -> gates.Gate:
  """`cascade_copy`: no more copies of training spans than in real pieces.

  Exact copies may not be more frequent, and near copies not above what
  chance among the clips explains (lower bound of the difference).

  Args:
    generated: Spans of generated clips, or of a negative control.
    held_out: Spans of held-out real pieces.
  """
  threshold = near_threshold(held_out)
  ours = generated.near_rates(threshold)
  real = held_out.near_rates(threshold)
  excess = bootstrap.two_samples(ours, real)
  chance = float(real.mean())
  return gates.make(
    'cascade_copy',
    excess.shifted(chance),
    chance,
    {
      'exact 5 s copies no more frequent than in held-out pieces': (
        generated.exact_rate() <= held_out.exact_rate()
      ),
      'near copies no more frequent than in held-out pieces': excess.low <= 0,
    },
  )


def copy_figures(
  generated: memorization.Copying, held_out: memorization.Copying
) -> dict:
  """Rates and typical shares of both, for the report."""
  threshold = near_threshold(held_out)
  return {
    'near_threshold': threshold,
    **{
      f'{name}_{figure}': value
      for name, part in (('generated', generated), ('held_out', held_out))
      for figure, value in (
        ('exact_rate', part.exact_rate()),
        ('near_rate', float(part.near_rates(threshold).mean())),
        ('mean_share', float(part.shares.mean())),
        ('largest_share', float(part.shares.max())),
      )
    },
  }


def choose_prompts(
  split: CorpusSplit, seed: int
) -> tuple[list[str], list[str]]:
  """Held-out captions that state the lead family, as many of each family.

  Returns:
    Prompts and their families.
  """
  rng = np.random.default_rng([seed, 3])
  found: dict[str, list[str]] = {}
  crops = split.crops(SECONDS, 3, 3 * len(split.source))
  for crop in crops:
    family = split.attributes(crop).get('lead_family')
    if not family or len(found.get(family, ())) >= PROMPTS_PER_FAMILY:
      continue
    caption = _caption_with_family(split, crop, rng)
    if caption:
      found.setdefault(family, []).append(caption)
  pairs = [
    (caption, family) for family in sorted(found) for caption in found[family]
  ]
  return [caption for caption, _ in pairs], [family for _, family in pairs]


def _caption_with_family(
  split: CorpusSplit, crop: Excerpt, rng: np.random.Generator
) -> str | None:
  """A caption of the crop that says what leads it; None if none was drawn."""
  for _ in range(_CAPTION_DRAWS):
    caption = split.described(crop, rng)
    if 'lead_family' in caption.stated:
      return caption.text
  return None


@dataclasses.dataclass(frozen=True)
class Generated:
  """What the cascade made of the prompts.

  Attributes:
    prompts: Sentences [P].
    families: Prompted lead families [P].
    waveforms: [P, R, S].
    semantic: [P, R, Ts].
    acoustic: [P, R, Ta, Q].
    unconditional: Clips without prompt [N, S].
    text_codes: MuLan tokens of the prompts [P, 12].
  """

  prompts: Sequence[str]
  families: Sequence[str]
  waveforms: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray
  unconditional: np.ndarray
  text_codes: np.ndarray


def generate(
  artifacts: Artifacts,
  prompts: Sequence[str],
  families: Sequence[str],
  seed: int,
  keep: Keep = unkept,
) -> Generated:
  """Generates every prompt with two seeds, and as many clips without one."""

  def run(number: int, **sampling: Any) -> Music:
    return artifacts.model.generate(
      list(prompts),
      seconds=SECONDS,
      seed=SEEDS * seed + number,
      keep=lambda part, make: keep(f'clips {number} {part}', make),
      **sampling,
    )

  runs = [run(k) for k in range(SEEDS)]
  free = run(SEEDS, mulan_levels=0)
  return Generated(
    prompts=prompts,
    families=families,
    waveforms=np.stack([run.waveform for run in runs], axis=1),
    semantic=np.stack([run.tokens['semantic'] for run in runs], axis=1),
    acoustic=np.stack([run.tokens['acoustic'] for run in runs], axis=1),
    unconditional=free.waveform,
    text_codes=free.tokens['mulan'],
  )


def prompt_gates(
  artifacts: Artifacts, made: Generated, classifiers: Classifiers
) -> tuple[list[gates.Gate], dict]:
  """`cascade_prompt` and `cascade_family`."""
  shape = made.waveforms.shape[:2]
  flat = made.waveforms.reshape(-1, made.waveforms.shape[-1])
  audio = artifacts.audio_embeddings(flat).reshape(*shape, -1)
  scores = PromptScores.measure(
    artifacts.text_embeddings(made.prompts),
    audio,
    artifacts.audio_embeddings(made.unconditional),
  )
  named = np.array(classifiers.families(flat)).reshape(shape)
  hits = FamilyHits.measure(
    made.families, named, classifiers.families(made.unconditional)
  )
  qualified = classifiers.qualifications['family'].qualified
  return [scores.gate(), hits.gate(classifier_qualified=qualified)], {
    'cascade_prompt': scores.figures(),
    'cascade_family': hits.figures(),
  }


def music_gates(
  artifacts: Artifacts, made: Generated
) -> tuple[list[gates.Gate], dict]:
  """`cascade_music` and `audio_sane`, with held-out music as the ceiling."""
  clips = [[music.measure(clip) for clip in row] for row in made.waveforms]
  same = equal_tokens(made.semantic[:, 0], made.semantic[:, 1])
  found = [
    music_gate(clips, same),
    sane_gate(clips),
  ]
  return found, {
    'cascade_music': {
      **music_figures(clips),
      **_ceilings(artifacts),
      'equal_tokens_of_two_seeds': same,
    }
  }


def _ceilings(artifacts: Artifacts) -> dict[str, float]:
  """Share of held-out clips that are music, as they are and coded."""
  split = artifacts.test
  crops = split.crops(SECONDS, 1, _CEILING_CLIPS)
  real = np.stack([split.read(crop) for crop in crops])
  sides = {'held_out': real, 'through_codec': artifacts.codec.through(real)}
  return {
    name: float(np.mean([is_music(music.measure(x)) for x in side]))
    for name, side in sides.items()
  }


def copy_gates(
  artifacts: Artifacts, made: Generated
) -> tuple[list[gates.Gate], dict]:
  """`cascade_copy` and `negative_controls`."""
  rate = artifacts.bundle.contract.streams['semantic'].frame_rate
  records = artifacts.train.records
  training = [record.semantic for record in records]

  def measure(
    streams: Sequence[np.ndarray], units: Sequence
  ) -> memorization.Copying:
    return memorization.measure(streams, units, training, frame_rate=rate)

  real = artifacts.test.spread_records(1, _HELD_OUT_PIECES)
  held_out = measure(
    [record.semantic for record in real], [record.piece_id for record in real]
  )
  prompts = range(len(made.prompts))
  ours = measure(
    list(made.semantic.reshape(-1, made.semantic.shape[-1])),
    [p for p in prompts for _ in range(SEEDS)],
  )
  levels = max(1, artifacts.bundle.settings.mulan_levels)
  nearest = negative_controls.nearest_by_tokens(
    made.text_codes[:, :levels],
    np.stack([record.mulan for record in records])[:, :levels],
  )
  retrieved = measure([training[i] for i in nearest], list(prompts))
  tones = [
    [music.measure(negative_controls.constant_tone(family, SECONDS))]
    for family in made.families
  ]
  never_equal = np.zeros(len(tones))
  gate = copy_gate(ours, held_out)
  control = negative_controls.gate(
    copy_gate(retrieved, held_out),
    music_gate(tones, never_equal),
  )
  return [gate, control], {
    'cascade_copy': copy_figures(ours, held_out),
    'negative_controls': {
      'retrieval': copy_figures(retrieved, held_out),
      'constant_tone': music_figures(tones),
    },
  }
