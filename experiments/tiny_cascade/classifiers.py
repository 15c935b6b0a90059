"""Independent classifiers of lead family and tempo, and what they are worth.

They are frozen: trained once, on rendered music of another seed, plain and
through codecs that have nothing to do with ours (`train_classifiers.py`), so
that every cascade is heard by the same ears. On held-out pieces of each demo
they say how often they are right, plain and through its codec. One that is not
right often enough on plain music decides nothing, and that is a failure of the
evaluation.
"""

import dataclasses
import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tiny_cascade import feature_cache, features
from experiments.tiny_cascade.feature_cache import ClipFeatures, SplitFeatures
from musiclm_jax.metrics import bootstrap

FILE = Path(__file__).with_name('classifiers.safetensors')
SHA256 = '6bc2afccfe9eff638c75ec8ca833a59b39a2a82083e3c23b84ef2a4e9197be87'
FAMILY_THRESHOLD = 0.85
TEMPO_THRESHOLD = 0.80
TEMPO_TOLERANCE = 0.12
LOWEST_BPM, HIGHEST_BPM = 55.0, 200.0  # of the classes


@dataclasses.dataclass(frozen=True)
class Layers:
  """A perceptron over standardised rows, or a logistic regression.

  Attributes:
    mean: Of the rows it was fitted to [D].
    scale: Their standard deviation [D].
    weights: Of each layer [D_i, D_i+1].
    biases: Of each layer [D_i+1].
  """

  mean: np.ndarray
  scale: np.ndarray
  weights: Sequence[np.ndarray]
  biases: Sequence[np.ndarray]

  def shares(self, rows: np.ndarray) -> np.ndarray:
    """Likelihood of each class, [N, D] -> [N, K]."""
    x = (np.asarray(rows, np.float64) - self.mean) / self.scale
    for depth, (weight, bias) in enumerate(
      zip(self.weights, self.biases, strict=True)
    ):
      x = (np.maximum(x, 0.0) if depth else x) @ weight + bias
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)

  def to_arrays(self, name: str) -> dict[str, np.ndarray]:
    """All arrays by names of their own."""
    arrays = {'mean': self.mean, 'scale': self.scale}
    for depth, weight in enumerate(self.weights):
      arrays[f'weight_{depth}'] = weight
      arrays[f'bias_{depth}'] = self.biases[depth]
    return {f'{name}/{key}': array for key, array in arrays.items()}

  @classmethod
  def of_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> 'Layers':
    """What `to_arrays` has named."""
    depths = range(sum(key.startswith(f'{name}/weight_') for key in arrays))
    return cls(
      arrays[f'{name}/mean'],
      arrays[f'{name}/scale'],
      [arrays[f'{name}/weight_{depth}'] for depth in depths],
      [arrays[f'{name}/bias_{depth}'] for depth in depths],
    )


@dataclasses.dataclass(frozen=True)
class FamilyClassifier:
  """Names the lead family of a clip from its timbre, second by second.

  Attributes:
    names: Of the families.
    by_second: Reads one window.
    by_clip: Reads `pool` of a clip.
  """

  names: Sequence[str]
  by_second: Layers
  by_clip: Layers

  def predict(self, windows: Sequence[np.ndarray]) -> list[str]:
    """Names the family of each clip, given its timbre windows [W, D]."""
    return [self.names[i] for i in self.scores(windows).argmax(axis=1)]

  def scores(self, windows: Sequence[np.ndarray]) -> np.ndarray:
    """How much speaks for each family, as logarithms, [N, K]."""
    ends = np.cumsum([len(part) for part in windows])[:-1]
    rows = np.concatenate(list(windows))
    seconds = np.log(self.by_second.shares(rows) + 1e-3)
    scores = np.stack([s.mean(axis=0) for s in np.split(seconds, ends)])
    pooled = np.stack([pool(part) for part in windows])
    return scores + 0.5 * np.log(self.by_clip.shares(pooled) + 1e-3)


def pool(windows: np.ndarray) -> np.ndarray:
  """Mean and spread of a clip's windows, [W, D] -> [2 D]."""
  return np.concatenate([windows.mean(axis=0), windows.std(axis=0)])


@dataclasses.dataclass(frozen=True)
class TempoClassifier:
  """Names the tempo of a clip from its tempogram.

  Attributes:
    classes: Number of each class, `bpm_to_bin` of its tempo.
    layers: Reads a flattened tempogram.
  """

  classes: np.ndarray
  layers: Layers

  def predict(self, tempograms: np.ndarray) -> np.ndarray:
    """Tempo of each clip in bpm, [N].

    The answer is the centre of the likeliest stretch of +-12 %, which is what
    the classifier is measured by.
    """
    x = np.asarray(tempograms)
    shares = self.layers.shares(x.reshape(len(x), -1))
    grid = np.arange(self.classes.max() + 1)
    dense = np.zeros((len(x), len(grid)))
    dense[:, self.classes] = shares
    reach = features.BINS_PER_OCTAVE * np.log2(1 + TEMPO_TOLERANCE)
    near = np.abs(grid[:, None] - grid) <= reach
    centre = (dense @ near).argmax(axis=1)
    weights = dense * near[centre]
    bins = (weights * grid).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return LOWEST_BPM * 2 ** (bins / features.BINS_PER_OCTAVE)


def bpm_to_bin(bpm: np.ndarray) -> np.ndarray:
  """Tempi as 24ths of an octave above the slowest class."""
  return features.BINS_PER_OCTAVE * np.log2(bpm / LOWEST_BPM)


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
    kept: The second as a share of the first, piece by piece.
    chance: From permuted answers.
    threshold: What the accuracy on plain clips must reach.
    sha256: Of the classifiers.
  """

  name: str
  real: bootstrap.Interval
  resynthesised: bootstrap.Interval
  kept: bootstrap.Interval
  chance: float
  threshold: float
  sha256: str = SHA256

  @property
  def qualified(self) -> bool:
    """Whether it is right on plain music often enough."""
    return self.real.value >= self.threshold


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
    threshold: Accuracy on plain clips that it must reach.
    classes: Class of each clip, for balance.
  """
  keys = list(zip(units, classes or [None] * len(units), strict=True))
  plain, order = bootstrap.unit_means(hits, keys)
  coded, _ = bootstrap.unit_means(resynthesised_hits, keys)
  labels = [key[1] for key in order] if classes else None
  return Qualification(
    name,
    bootstrap.mean(plain, classes=labels),
    bootstrap.mean(coded, classes=labels),
    bootstrap.ratio(coded, plain),
    chance,
    threshold,
  )


@dataclasses.dataclass(frozen=True)
class Classifiers:
  """The frozen classifiers and what they are worth on a demo's pieces."""

  family: FamilyClassifier
  tempo: TempoClassifier
  qualifications: Mapping[str, Qualification]

  def classify(self, clips: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names lead family and tempo in bpm of clips [N, S], [N] each."""
    found = feature_cache.features_of(clips)
    timbres, tempograms = zip(*found, strict=True)
    return (
      self.family.predict(timbres),
      self.tempo.predict(np.stack(tempograms)),
    )


def load(path: Path = FILE) -> tuple[FamilyClassifier, TempoClassifier]:
  """Loads the classifiers that lie beside this file.

  Raises:
    ValueError: If they are not those that this version was measured with.
  """
  from safetensors.numpy import load as parse

  data = path.read_bytes()
  if (sha256 := hashlib.sha256(data).hexdigest()) != SHA256:
    raise ValueError(
      f'{path.name} has SHA-256 {sha256}, expected {SHA256}: classifiers that '
      'were trained anew are named in classifiers.py'
    )
  arrays = parse(data)
  names = bytes(arrays.pop('families')).decode().split('\n')
  family = FamilyClassifier(
    names, Layers.of_arrays('second', arrays), Layers.of_arrays('clip', arrays)
  )
  tempo = TempoClassifier(
    arrays['tempo_classes'], Layers.of_arrays('tempo', arrays)
  )
  return family, tempo


def save(
  family: FamilyClassifier,
  tempo: TempoClassifier,
  training: Mapping[str, Any],
  path: Path = FILE,
) -> str:
  """Writes what `load` reads.

  Args:
    family: Trained.
    tempo: Trained.
    training: What on and how, for the reader of the file.
    path: Of the file.

  Returns:
    Its SHA-256.
  """
  from safetensors.numpy import save as dump

  arrays = {
    'families': np.frombuffer('\n'.join(family.names).encode(), np.uint8),
    'tempo_classes': np.asarray(tempo.classes, np.int32),
    **family.by_second.to_arrays('second'),
    **family.by_clip.to_arrays('clip'),
    **tempo.layers.to_arrays('tempo'),
  }
  data = dump(arrays, metadata={'training': json.dumps(dict(training))})
  path.write_bytes(data)
  return hashlib.sha256(data).hexdigest()


def examined(held_out: SplitFeatures) -> Classifiers:
  """The frozen classifiers, with their accuracy on held-out clips.

  Args:
    held_out: Clips of a demo's pieces that no network has learned from.
  """
  family, tempo = load()
  return Classifiers(family, tempo, _qualify(family, tempo, held_out))


def _qualify(
  family: FamilyClassifier, tempo: TempoClassifier, test: SplitFeatures
) -> dict[str, Qualification]:
  sides: Sequence[ClipFeatures] = (test.plain, test.coded)
  named = [family.predict(side.timbres) for side in sides]
  beats = [tempo.predict(side.tempograms) for side in sides]
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
