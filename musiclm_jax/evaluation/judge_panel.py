"""The panel of judges, trained on the corpus plain and through the codec.

Material -> crops of training and held-out pieces -> `FamilyJudge` and
`TempoJudge` with their accuracy on pieces that they have never heard.
"""

import concurrent.futures
import dataclasses

import numpy as np

from musiclm_jax.evaluation import judge_features, judges, statistics
from musiclm_jax.evaluation.material import Material, Split

_SECONDS = 10.0
_CROPS_PER_PIECE = 2
_TRAIN = 1000
_TEST = 160
_CHUNK = 32  # clips in memory at once


@dataclasses.dataclass(frozen=True)
class Panel:
  """The trained judges and what they are worth."""

  family: judges.FamilyJudge
  tempo: judges.TempoJudge
  qualifications: dict[str, judges.Qualification]

  def families(self, clips: np.ndarray) -> list[str]:
    """Names the lead family of each clip [N, S]."""
    return self.family.judge([judge_features.timbre(clip) for clip in clips])


def train(material: Material, seed: int) -> Panel:
  """Trains on the training pieces, tests on held-out ones, plain and coded."""
  taught = _Hearing(material, material.train, _TRAIN)
  timbres, tempograms = zip(*(taught.plain + taught.coded), strict=True)
  family = judges.FamilyJudge(seed).fit(timbres, taught.families * 2)
  tempo = judges.TempoJudge(seed).fit(np.stack(tempograms), taught.bpm * 2)
  held_out = _Hearing(material, material.test, _TEST)
  return Panel(family, tempo, _qualify(family, tempo, held_out))


class _Hearing:
  """Crops of one split as the judges hear them, plain and coded."""

  def __init__(self, material: Material, split: Split, limit: int):
    crops = split.crops(_SECONDS, _CROPS_PER_PIECE, limit)
    crops = sorted(crops, key=lambda c: (c.piece, c.start_seconds))
    self.families: list[str] = []
    self.bpm: list[float] = []
    self.units: list[int] = []
    self.plain: list[tuple[np.ndarray, np.ndarray]] = []
    self.coded: list[tuple[np.ndarray, np.ndarray]] = []
    led = []
    for crop in crops:
      attributes = split.attributes(crop)
      # A crop without an audible lead has no family to be judged.
      if attributes['lead_family']:
        led.append(crop)
        self.families.append(attributes['lead_family'])
        self.bpm.append(attributes['bpm'])
        self.units.append(crop.piece)
    for first in range(0, len(led), _CHUNK):
      chunk = led[first : first + _CHUNK]
      clips = np.stack([split.read(crop) for crop in chunk])
      self.plain += _features(clips)
      self.coded += _features(material.through_codec(clips))


def _features(clips: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
  """Timbre and tempogram of each clip, on two threads."""

  def listen(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return judge_features.timbre(clip), judge_features.tempogram(clip)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return list(pool.map(listen, clips))


def _qualify(family, tempo, test: _Hearing) -> dict[str, judges.Qualification]:
  named, beats = [], []
  for side in (test.plain, test.coded):
    named.append(family.judge([timbre for timbre, _ in side]))
    beats.append(tempo.judge(np.stack([tempogram for _, tempogram in side])))
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
