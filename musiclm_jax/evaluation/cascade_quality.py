"""Is the prompt heard, and is it music: P prompts x R seeds of clips.

MuLan embeddings, judged families, clip statistics and semantic tokens of the
generated clips in; gates out. Baselines are the unconditional model and the
same clips with the prompts of others.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from musiclm_jax.evaluation import gates, statistics
from musiclm_jax.evaluation.music_statistics import ClipStatistics


@dataclasses.dataclass(frozen=True)
class PromptScores:
  """MuLan text scores, mean cosine(text, audio), per prompt [P].

  The model was conditioned by the same MuLan: this shows that the prompt is
  heard, not that the music fits it.

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
    rivals = {
      'unconditional model': self.unconditional,
      'shuffled prompts': self.shuffled,
    }
    return _above_all('cascade_prompt', self.own, rivals, {})

  def figures(self) -> dict:
    """Mean scores, for the report."""
    return {
      name: float(values.mean())
      for name, values in dataclasses.asdict(self).items()
    }


@dataclasses.dataclass(frozen=True)
class FamilyHits:
  """How often the judge names the prompted lead family, per prompt [P].

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
    judged: Sequence[Sequence[str]],
    unconditional: Sequence[str],
  ) -> 'FamilyHits':
    """Compares what was asked for with what the judge hears.

    Args:
      prompted: Family per prompt [P].
      judged: Judge's family per clip [P][R].
      unconditional: Judge's family of clips without prompt [N].
    """
    judged = np.asarray(judged)
    shares = np.array(
      [[(clips == family).mean() for clips in judged] for family in prompted]
    )
    own = np.diag(shares)
    others = (shares.sum(axis=1) - own) / (len(prompted) - 1)
    free = np.asarray(unconditional)
    alone = np.array([(free == family).mean() for family in prompted])
    return cls(own, others, alone, list(prompted))

  def gate(self, *, judge_qualified: bool) -> gates.Gate:
    """`cascade_family`: above both baselines, by a judge that may judge."""
    rivals = {
      'unconditional model': self.unconditional,
      'shuffled prompts': self.shuffled,
    }
    judge = {'the family judge is qualified': judge_qualified}
    return _above_all(
      'cascade_family',
      self.own,
      rivals,
      judge,
      classes=self.families,
      stage=None if judge_qualified else 'evaluate',
    )

  def figures(self) -> dict:
    """Mean shares, for the report."""
    return {
      'own': statistics.bootstrap_mean(self.own, classes=self.families),
      'shuffled': float(self.shuffled.mean()),
      'unconditional': float(self.unconditional.mean()),
    }


def _above_all(name, own, rivals, conditions, *, classes=None, stage=None):
  """A gate that holds where `own` is above every rival, prompt by prompt."""
  margins = {
    rival: statistics.bootstrap_difference(own, values, classes=classes)
    for rival, values in rivals.items()
  }
  conditions = {
    **conditions,
    **{f'above {rival}': m.low > 0 for rival, m in margins.items()},
  }
  closest = min(margins, key=lambda rival: margins[rival].low)
  chance = statistics.balanced_mean(rivals[closest], classes)
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
  shares = [np.mean([clip.is_music() for clip in row]) for row in clips]
  interval = statistics.bootstrap_mean(shares)
  agreement = statistics.bootstrap_mean(seed_agreement)
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
  shares = [np.mean([clip.is_sane() for clip in row]) for row in clips]
  conditions = {
    'no NaN': all(clip.finite for clip in flat),
    'peak <= 1': all(clip.peak <= 1.0 for clip in flat),
    'RMS between -40 and -6 dBFS': all(
      -40.0 <= clip.rms_dbfs <= -6.0 for clip in flat
    ),
    'not noise (flatness)': all(clip.flatness <= 0.25 for clip in flat),
  }
  return gates.make(
    'audio_sane', statistics.bootstrap_mean(shares), 1.0, conditions
  )


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
