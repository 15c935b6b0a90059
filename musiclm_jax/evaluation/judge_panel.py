"""The panel of judges, trained on the corpus plain and through the codec.

Hearing of training and held-out pieces -> `FamilyJudge` and `TempoJudge` with
their accuracy on pieces that they have never heard.
"""

import dataclasses

import numpy as np

from musiclm_jax.evaluation import judge_features, judges, statistics
from musiclm_jax.evaluation.hearing import Hearing


@dataclasses.dataclass(frozen=True)
class Panel:
  """The trained judges and what they are worth."""

  family: judges.FamilyJudge
  tempo: judges.TempoJudge
  qualifications: dict[str, judges.Qualification]

  def families(self, clips: np.ndarray) -> list[str]:
    """Names the lead family of each clip [N, S]."""
    return self.family.judge([judge_features.timbre(clip) for clip in clips])


def train(taught: Hearing, held_out: Hearing, seed: int) -> Panel:
  """Trains on clips of training pieces, tests on held-out ones.

  Args:
    taught: Training clips, plain and coded.
    held_out: Clips of pieces that the judges do not learn from.
    seed: Of the judges' weights.
  """
  sides = (taught.plain, taught.coded)
  timbres = np.concatenate([side.timbres for side in sides])
  tempograms = np.concatenate([side.tempograms for side in sides])
  family = judges.FamilyJudge(seed).fit(timbres, [*taught.families] * 2)
  tempo = judges.TempoJudge(seed).fit(tempograms, [*taught.bpm] * 2)
  return Panel(family, tempo, _qualify(family, tempo, held_out))


def _qualify(
  family: judges.FamilyJudge, tempo: judges.TempoJudge, test: Hearing
) -> dict[str, judges.Qualification]:
  named, beats = [], []
  for side in (test.plain, test.coded):
    named.append(family.judge(side.timbres))
    beats.append(tempo.judge(side.tempograms))
  hits = [
    [a == b for a, b in zip(side, test.families, strict=True)] for side in named
  ]
  tempo_hits = [judges.tempo_hits(side, test.bpm) for side in beats]
  shuffled = np.random.default_rng(0).permutation(test.bpm)
  return {
    'family': judges.qualify(
      'family',
      *hits,
      test.units,
      chance=statistics.permuted_chance(test.families, named[0]),
      mark=judges.FAMILY_MARK,
      classes=test.families,
    ),
    'tempo': judges.qualify(
      'tempo',
      *tempo_hits,
      test.units,
      chance=float(judges.tempo_hits(beats[0], shuffled).mean()),
      mark=judges.TEMPO_MARK,
    ),
  }
