"""Independent classifiers of lead family and tempo, and what they are worth.

Trained on rendered clips both plain and passed through the codec, and tested
on held-out pieces, likewise both. A classifier below its threshold decides
nothing: the gates that need it fail by its name.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from experiments.tiny_cascade import features
from experiments.tiny_cascade.feature_cache import SplitFeatures
from musiclm_jax.metrics import bootstrap

FAMILY_THRESHOLD = 0.85
TEMPO_THRESHOLD = 0.80
TEMPO_TOLERANCE = 0.12
_LOWEST_CLASS_BPM, _HIGHEST_CLASS_BPM = 55.0, 200.0
_SHIFTS = (-6, -3, 3, 6)  # bins of a 24th octave


class FamilyClassifier:
  """Names the lead family of a clip from its timbre, second by second."""

  def __init__(self, seed: int = 0):
    """Makes an untrained classifier."""
    self._seed = seed
    self._names: list[str] = []
    self._models: list = []

  def fit(
    self, windows: Sequence[np.ndarray], families: Sequence[str]
  ) -> 'FamilyClassifier':
    """Learns from clips.

    Args:
      windows: `features.timbre` of each clip [W, D].
      families: Lead family of each clip.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    self._names = sorted(set(families))
    ids = np.array([self._names.index(family) for family in families])
    rows = np.concatenate(list(windows))
    labels = np.repeat(ids, [len(part) for part in windows])
    pooled = np.stack([_pool(part) for part in windows])
    by_second = make_pipeline(
      StandardScaler(),
      MLPClassifier(
        (192,),
        alpha=1e-2,
        batch_size=256,
        early_stopping=False,
        learning_rate_init=1e-3,
        max_iter=18,
        random_state=self._seed,
      ),
    )
    by_clip = make_pipeline(
      StandardScaler(), LogisticRegression(C=0.003, max_iter=300)
    )
    import warnings

    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # the step limit is meant
      by_second.fit(rows, labels)
      by_clip.fit(pooled, ids)
    self._models = [by_second, by_clip]
    return self

  def predict(self, windows: Sequence[np.ndarray]) -> list[str]:
    """Names the family of each clip, given its timbre windows."""
    by_second, by_clip = self._models
    rows = np.concatenate(list(windows))
    ends = np.cumsum([len(part) for part in windows])[:-1]
    seconds = np.log(by_second.predict_proba(rows) + 1e-3)
    scores = np.stack([s.mean(axis=0) for s in np.split(seconds, ends)])
    pooled = np.stack([_pool(part) for part in windows])
    scores = scores + 0.5 * np.log(by_clip.predict_proba(pooled) + 1e-3)
    return [self._names[i] for i in scores.argmax(axis=1)]


def _pool(windows: np.ndarray) -> np.ndarray:
  """Mean and spread of a clip's windows, [W, D] -> [2 D]."""
  return np.concatenate([windows.mean(axis=0), windows.std(axis=0)])


class TempoClassifier:
  """Names the tempo of a clip from its tempogram."""

  def __init__(self, seed: int = 0):
    """Makes an untrained classifier."""
    self._seed = seed
    self._model = None

  def fit(
    self, tempograms: np.ndarray, bpm: Sequence[float]
  ) -> 'TempoClassifier':
    """Learns from clips, each also a little slower and faster.

    Args:
      tempograms: `features.tempogram` of each clip [N, 2, B, L].
      bpm: Tempo of each clip.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    bins = _bpm_to_bin(np.asarray(bpm, float))
    rows, labels = [tempograms], [bins]
    highest = _bpm_to_bin(np.array(_HIGHEST_CLASS_BPM))
    for shift in _SHIFTS:
      moved = _shifted(tempograms, shift)
      inside = (bins + shift >= 0) & (bins + shift <= highest)
      rows.append(moved[inside])
      labels.append(bins[inside] + shift)
    x = np.concatenate(rows)
    y = np.rint(np.concatenate(labels)).astype(int)
    model = make_pipeline(
      StandardScaler(),
      MLPClassifier(
        (128,),
        alpha=1e-2,
        batch_size=256,
        learning_rate_init=1e-3,
        max_iter=15,
        random_state=self._seed,
      ),
    )
    import warnings

    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      model.fit(x.reshape(len(x), -1), y)
    self._model = model
    return self

  def predict(self, tempograms: np.ndarray) -> np.ndarray:
    """Tempo of each clip in bpm, [N].

    The answer is the centre of the likeliest stretch of +-12 %, which is what
    the classifier is measured by.
    """
    x = np.asarray(tempograms)
    shares = self._model.predict_proba(x.reshape(len(x), -1))
    classes = self._model.classes_
    grid = np.arange(classes.max() + 1)
    dense = np.zeros((len(x), len(grid)))
    dense[:, classes] = shares
    reach = features.BINS_PER_OCTAVE * np.log2(1 + TEMPO_TOLERANCE)
    near = np.abs(grid[:, None] - grid) <= reach
    centre = (dense @ near).argmax(axis=1)
    weights = dense * near[centre]
    bins = (weights * grid).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return _LOWEST_CLASS_BPM * 2 ** (bins / features.BINS_PER_OCTAVE)


def _bpm_to_bin(bpm: np.ndarray) -> np.ndarray:
  return features.BINS_PER_OCTAVE * np.log2(bpm / _LOWEST_CLASS_BPM)


def _shifted(tempograms: np.ndarray, shift: int) -> np.ndarray:
  """Tempograms of the same music at 2**(shift / 24) times the tempo."""
  index = np.arange(tempograms.shape[-1]) - shift
  return tempograms[..., np.clip(index, 0, tempograms.shape[-1] - 1)]


def tempo_hits(predicted: Sequence[float], bpm: Sequence[float]) -> np.ndarray:
  """Whether each tempo is within 12 % of the true one, octaves not excused."""
  ratio = np.asarray(predicted, float) / np.asarray(bpm, float)
  return (np.abs(ratio - 1) <= TEMPO_TOLERANCE).astype(float)


@dataclasses.dataclass(frozen=True)
class Qualification:
  """A classifier's accuracy on held-out pieces, and whether it decides.

  Attributes:
    name: `family` or `tempo`.
    real: Accuracy on plain clips, over pieces, classes balanced.
    resynthesised: On the same clips passed through the codec.
    chance: From permuted answers.
    threshold: What both must reach.
  """

  name: str
  real: bootstrap.Interval
  resynthesised: bootstrap.Interval
  chance: float
  threshold: float

  @property
  def qualified(self) -> bool:
    """Whether both accuracies reach the threshold."""
    return min(self.real.value, self.resynthesised.value) >= self.threshold


def qualify(
  name: str,
  hits: Sequence[float],
  resynthesised_hits: Sequence[float],
  units: Sequence,
  *,
  chance: float,
  threshold: float,
  classes: Sequence | None = None,
) -> Qualification:
  """Bounds of a classifier's accuracy over pieces.

  Args:
    name: Of the classifier.
    hits: Per held-out clip, whether it was right [N].
    resynthesised_hits: The same after the codec [N].
    units: Piece of each clip.
    chance: From permuted answers.
    threshold: Accuracy that both must reach.
    classes: Class of each clip, for balance.
  """
  keys = list(zip(units, classes or [None] * len(units), strict=True))

  def interval(values: Sequence[float]) -> bootstrap.Interval:
    means, order = bootstrap.unit_means(values, keys)
    labels = [key[1] for key in order] if classes else None
    return bootstrap.mean(means, classes=labels)

  return Qualification(
    name, interval(hits), interval(resynthesised_hits), chance, threshold
  )


@dataclasses.dataclass(frozen=True)
class Classifiers:
  """The trained classifiers and what they are worth."""

  family: FamilyClassifier
  tempo: TempoClassifier
  qualifications: dict[str, Qualification]

  def families(self, clips: np.ndarray) -> list[str]:
    """Names the lead family of each clip [N, S]."""
    return self.family.predict([features.timbre(clip) for clip in clips])


def train(
  taught: SplitFeatures, held_out: SplitFeatures, seed: int
) -> Classifiers:
  """Trains on clips of training pieces, tests on held-out ones.

  Args:
    taught: Training clips, plain and coded.
    held_out: Clips of pieces that are not learned from.
    seed: Of the classifiers' weights.
  """
  sides = (taught.plain, taught.coded)
  timbres = np.concatenate([side.timbres for side in sides])
  tempograms = np.concatenate([side.tempograms for side in sides])
  family = FamilyClassifier(seed).fit(timbres, [*taught.families] * 2)
  tempo = TempoClassifier(seed).fit(tempograms, [*taught.bpm] * 2)
  return Classifiers(family, tempo, _qualify(family, tempo, held_out))


def _qualify(
  family: FamilyClassifier, tempo: TempoClassifier, test: SplitFeatures
) -> dict[str, Qualification]:
  named, beats = [], []
  for side in (test.plain, test.coded):
    named.append(family.predict(side.timbres))
    beats.append(tempo.predict(side.tempograms))
  hits = [
    [a == b for a, b in zip(side, test.families, strict=True)] for side in named
  ]
  in_tempo = [tempo_hits(side, test.bpm) for side in beats]
  shuffled = np.random.default_rng(0).permutation(test.bpm)
  return {
    'family': qualify(
      'family',
      *hits,
      test.units,
      chance=permuted_chance(test.families, named[0]),
      threshold=FAMILY_THRESHOLD,
      classes=test.families,
    ),
    'tempo': qualify(
      'tempo',
      *in_tempo,
      test.units,
      chance=float(tempo_hits(beats[0], shuffled).mean()),
      threshold=TEMPO_THRESHOLD,
    ),
  }


def permuted_chance(
  labels: Sequence[Hashable],
  predictions: Sequence[Hashable],
  *,
  seed: int = 0,
  permutations: int = 1000,
) -> float:
  """Balanced accuracy of the same predictions against permuted labels.

  It is what a classifier reaches by its own preferences among the classes.
  """
  rng = np.random.default_rng([seed, len(labels)])
  names = {label: i for i, label in enumerate(dict.fromkeys(labels))}
  label_ids = np.array([names[label] for label in labels])
  prediction_ids = np.array([names.get(name, -1) for name in predictions])
  counts = np.bincount(label_ids)
  total = 0.0
  for _ in range(permutations):
    permuted = rng.permutation(label_ids)
    hits = permuted[permuted == prediction_ids]
    total += (np.bincount(hits, minlength=len(counts)) / counts).mean()
  return total / permutations
