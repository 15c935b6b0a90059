"""What do semantic tokens know: linear probes on their histograms.

tokens [T] of a crop -> square-rooted histogram [K] -> logistic regression ->
lead family or tempo class. The same probe reads k-means tokens of equal K on
log-mel frames, on MFCC and on an untrained network: tokens that
do not beat them have learned nothing that the front end did not know.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from musiclm_jax.evaluation import gates, statistics

SAMPLE_RATE = 24_000
OURS = 'w2v_bert'
_FIT_FRAMES = 40_000
_TEMPO_CLASSES = 3


@dataclasses.dataclass(frozen=True)
class Crops:
  """The crops of one split that are probed, index by index.

  Attributes:
    units: Piece of each crop.
    labels: Task (`family`, `tempo`) -> class of each crop.
  """

  units: Sequence[Hashable]
  labels: Mapping[str, Sequence[Hashable]]


def histograms(streams: Sequence[np.ndarray], codebook_size: int) -> np.ndarray:
  """Square roots of relative token frequencies, [N, K]."""
  counts = np.stack(
    [
      np.bincount(np.ravel(tokens), minlength=codebook_size)[:codebook_size]
      for tokens in streams
    ]
  )
  return np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def log_mel_frames(waveform: np.ndarray, frame_rate: float) -> np.ndarray:
  """Log-mel frames [T, 64] of one clip [S], one per semantic token."""
  import librosa

  mel = librosa.feature.melspectrogram(
    y=np.asarray(waveform, np.float32),
    sr=SAMPLE_RATE,
    n_fft=2048,
    hop_length=round(SAMPLE_RATE / frame_rate),
    n_mels=64,
  )
  return np.log10(mel.T + 1e-6)


def mfcc_frames(log_mels: np.ndarray) -> np.ndarray:
  """The first 20 cepstral coefficients of log-mel frames, [T, 20]."""
  from scipy import fft

  return fft.dct(log_mels, axis=1, norm='ortho')[:, :20]


def kmeans_tokens(
  train: Sequence[np.ndarray],
  test: Sequence[np.ndarray],
  codebook_size: int,
  seed: int,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
  """Tokens of a k-means fitted on the training frames, normalised per dim.

  Args:
    train: Frames [T_i, D] of the training crops.
    test: Frames [T_j, D] of the held-out crops.
    codebook_size: K.
    seed: Of the fit.

  Returns:
    Token streams of both.
  """
  from sklearn.cluster import MiniBatchKMeans

  frames = np.concatenate(train)
  rng = np.random.default_rng(seed)
  chosen = rng.permutation(len(frames))[:_FIT_FRAMES]
  mean, deviation = frames.mean(axis=0), frames.std(axis=0) + 1e-6
  fit = MiniBatchKMeans(
    codebook_size, batch_size=4096, n_init=1, max_iter=20, random_state=seed
  )
  fit.fit((frames[chosen] - mean) / deviation)
  return tuple(
    [fit.predict((part - mean) / deviation) for part in side]
    for side in (train, test)
  )


def tempo_classes(bpm: Sequence[float], edges: np.ndarray) -> list[int]:
  """Slow, medium, fast, by `tempo_edges` of the training crops."""
  return np.searchsorted(edges, np.asarray(bpm)).tolist()


def tempo_edges(bpm: Sequence[float]) -> np.ndarray:
  """Terciles of the training tempi."""
  shares = np.arange(1, _TEMPO_CLASSES) / _TEMPO_CLASSES
  return np.quantile(np.asarray(bpm, float), shares)


def probe_hits(
  train_x: np.ndarray,
  train_y: Sequence[Hashable],
  test_x: np.ndarray,
  test_y: Sequence[Hashable],
) -> np.ndarray:
  """Whether a linear probe names the class of each held-out row, [N]."""
  probe = _linear_probe()
  names = {label: i for i, label in enumerate(dict.fromkeys(train_y))}
  probe.fit(train_x, [names[label] for label in train_y])
  truth = np.array([names.get(label, -1) for label in test_y])
  return (probe.predict(test_x) == truth).astype(float)


def probe_scores(
  train_x: np.ndarray, train_y: Sequence[bool], test_x: np.ndarray
) -> np.ndarray:
  """How much a linear probe believes each held-out row to be true, [N]."""
  probe = _linear_probe().fit(train_x, np.asarray(train_y, int))
  return probe.decision_function(test_x)


def _linear_probe():
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  return make_pipeline(
    StandardScaler(),
    LogisticRegression(C=0.02, class_weight='balanced', max_iter=300),
  )


@dataclasses.dataclass(frozen=True)
class ProbeResult:
  """Share of right answers per piece, for one task.

  Attributes:
    classes: Class of each held-out piece.
    hits: Stream name -> share of right crops per piece [U].
    majority: Balanced accuracy of always naming one class.
  """

  classes: Sequence[Hashable]
  hits: Mapping[str, np.ndarray]
  majority: float

  def accuracy(self, stream: str) -> statistics.Interval:
    """Balanced accuracy of one stream's probe."""
    return statistics.bootstrap_mean(self.hits[stream], classes=self.classes)

  def margin(self, stream: str) -> statistics.Interval:
    """Our probe's balanced accuracy minus another's, piece by piece."""
    return statistics.bootstrap_difference(
      self.hits[OURS], self.hits[stream], classes=self.classes
    )


def probe(
  streams: Mapping[str, tuple[Sequence[np.ndarray], Sequence[np.ndarray]]],
  train: Crops,
  test: Crops,
  codebook_size: int,
) -> dict[str, ProbeResult]:
  """Probes every stream for every task.

  Args:
    streams: Name -> token streams of the training and held-out crops; ours
      is called `w2v_bert`.
    train: Labels of the training crops.
    test: Labels of the held-out crops.
    codebook_size: K of all streams.
  """
  results = {}
  tables = {
    name: [histograms(side, codebook_size) for side in sides]
    for name, sides in streams.items()
  }
  for task, labels in test.labels.items():
    # A piece may change its lead: the unit is the piece in one class.
    units = list(zip(test.units, labels, strict=True))
    hits = {}
    for name, (train_x, test_x) in tables.items():
      right = probe_hits(train_x, train.labels[task], test_x, labels)
      hits[name], order = statistics.unit_means(right, units)
    classes = [unit[1] for unit in order]
    results[task] = ProbeResult(classes, hits, 1 / len(set(classes)))
  return results


def gate(results: Mapping[str, ProbeResult]) -> gates.Gate:
  """`semantic_probe`: beats every baseline in one task, chance in both."""
  beats, conditions = {}, {}
  for task, result in results.items():
    above = result.accuracy(OURS).low > result.majority
    conditions[f'{task}: above the majority class'] = above
    margins = [result.margin(name).low for name in result.hits if name != OURS]
    beats[task] = min(margins) > 0
  words = ' or '.join(results)
  conditions[f'{words}: beats k-means on log-mel, MFCC, untrained'] = any(
    beats.values()
  )
  shown = next((task for task in results if beats[task]), next(iter(results)))
  result = results[shown]
  rivals = [name for name in result.hits if name != OURS]
  strongest = max(rivals, key=lambda name: result.accuracy(name).value)
  chance = result.accuracy(strongest).value
  return gates.make(
    'semantic_probe',
    result.margin(strongest).shifted(chance),
    chance,
    conditions,
  )


def figures(results: Mapping[str, ProbeResult]) -> dict:
  """Balanced accuracies of all probes, for the report."""
  return {
    task: {
      'majority': result.majority,
      **{name: result.accuracy(name) for name in result.hits},
    }
    for task, result in results.items()
  }
