"""Linear probes: how well features predict a label.

features [N, D] -> logistic regression -> label. Front ends and a k-means of
equal K make what features or tokens of a network are compared with.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.metrics import bootstrap

NO_LABEL = -1  # of a frame of which there is nothing to know
_FIT_FRAMES = 40_000
_TEMPO_CLASSES = 3


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
  """The score of a linear probe that each held-out row is true, [N]."""
  probe = _linear_probe().fit(train_x, np.asarray(train_y, int))
  return probe.decision_function(test_x)


def balanced_accuracy(
  hits: np.ndarray, classes: Sequence, pieces: Sequence
) -> bootstrap.Interval:
  """Mean accuracy of the classes; the bounds resample pieces.

  Args:
    hits: Whether each row was named rightly [N].
    classes: True class of each row [N].
    pieces: Piece of each row [N].
  """
  _, columns = np.unique(np.asarray(classes), return_inverse=True)
  _, rows = np.unique(np.asarray(pieces), return_inverse=True)
  total = np.zeros((rows.max() + 1, columns.max() + 1))
  right = np.zeros_like(total)
  np.add.at(total, (rows, columns), 1)
  np.add.at(right, (rows, columns), hits)

  def accuracy(units: np.ndarray) -> float:
    count = total[units].sum(axis=0)
    drawn = count > 0
    return float((right[units].sum(axis=0)[drawn] / count[drawn]).mean())

  return bootstrap.statistic(accuracy, len(total))


def area_under_curve(
  scores: np.ndarray, truth: np.ndarray, pieces: np.ndarray
) -> bootstrap.Interval:
  """Area under the ROC curve within each piece, averaged over pieces.

  Args:
    scores: Of each row, higher where it is rather true [N].
    truth: 0 or 1 [N].
    pieces: Piece of each row [N]; one whose rows are all alike does not count.
  """
  from sklearn.metrics import roc_auc_score

  areas = []
  for piece in np.unique(pieces):
    own = pieces == piece
    if 0 < truth[own].sum() < own.sum():
      areas.append(roc_auc_score(truth[own], scores[own]))
  return bootstrap.mean(areas)


def _linear_probe():
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  return make_pipeline(
    StandardScaler(),
    LogisticRegression(C=0.02, class_weight='balanced', max_iter=300),
  )
