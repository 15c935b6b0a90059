"""Trains the classifiers that every evaluation uses, once.

`python -m experiments.tiny_cascade.train_classifiers SOURCE`, in the root of a
checkout, where SOURCE is a corpus of rendered music, of a seed of its own, such
as `prepared:DIR`; its training pieces are learned from. Each crop
is heard twice, plain and through one of three codecs that have nothing to do
with ours, at some bit rate. Writes `classifiers.safetensors` and prints the
hash that `classifiers.py` expects of it.
"""

import io
import sys
import warnings
from collections.abc import Sequence

import numpy as np

from experiments.tiny_cascade import classifiers, feature_cache
from experiments.tiny_cascade.artifacts import CorpusSplit
from experiments.tiny_cascade.classifiers import (
  FamilyClassifier,
  Layers,
  TempoClassifier,
)
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.data import sources

_CROPS_PER_PIECE, _CROPS = 3, 1200
_SECONDS = 10.0
_CHUNK = 32  # clips in memory at once
_SHIFTS = (-6, -3, 3, 6)  # bins of a 24th octave
# libsndfile's names of other codecs; a level of 1 is the lowest bit rate.
_CODECS = (('MP3', 'MPEG_LAYER_III'), ('OGG', 'VORBIS'), ('OGG', 'OPUS'))
_LOWEST_LEVEL = 0.4


def fit_family(
  windows: Sequence[np.ndarray], families: Sequence[str], seed: int = 0
) -> FamilyClassifier:
  """Learns to name lead families.

  Args:
    windows: `features.timbre` of each clip [W, D].
    families: Lead family of each clip, three or more in all.
    seed: Of the first weights.
  """
  from sklearn.linear_model import LogisticRegression
  from sklearn.neural_network import MLPClassifier

  names = sorted(set(families))
  ids = np.array([names.index(family) for family in families])
  rows = np.concatenate(list(windows))
  labels = np.repeat(ids, [len(part) for part in windows])
  pooled = np.stack([classifiers.pool(part) for part in windows])
  by_second = MLPClassifier(
    (192,),
    alpha=1e-2,
    batch_size=256,
    early_stopping=False,
    learning_rate_init=1e-3,
    max_iter=18,
    random_state=seed,
  )
  by_clip = LogisticRegression(C=0.003, max_iter=300)
  return FamilyClassifier(
    names, _fit(by_second, rows, labels), _fit(by_clip, pooled, ids)
  )


def fit_tempo(
  tempograms: np.ndarray, bpm: Sequence[float], seed: int = 0
) -> TempoClassifier:
  """Learns tempi from clips, each also a little slower and faster.

  Args:
    tempograms: `features.tempogram` of each clip [N, 2, B, L].
    bpm: Tempo of each clip.
    seed: Of the first weights.
  """
  from sklearn.neural_network import MLPClassifier

  bins = classifiers.bpm_to_bin(np.asarray(bpm, float))
  rows, labels = [tempograms], [bins]
  highest = classifiers.bpm_to_bin(np.array(classifiers.HIGHEST_BPM))
  for shift in _SHIFTS:
    moved = shifted(tempograms, shift)
    inside = (bins + shift >= 0) & (bins + shift <= highest)
    rows.append(moved[inside])
    labels.append(bins[inside] + shift)
  x = np.concatenate(rows)
  y = np.rint(np.concatenate(labels)).astype(int)
  model = MLPClassifier(
    (128,),
    alpha=1e-2,
    batch_size=256,
    learning_rate_init=1e-3,
    max_iter=15,
    random_state=seed,
  )
  layers = _fit(model, x.reshape(len(x), -1), y)
  return TempoClassifier(model.classes_, layers)


def shifted(tempograms: np.ndarray, shift: int) -> np.ndarray:
  """Tempograms of the same music at 2**(shift / 24) times the tempo."""
  index = np.arange(tempograms.shape[-1]) - shift
  return tempograms[..., np.clip(index, 0, tempograms.shape[-1] - 1)]


def _fit(model, rows: np.ndarray, labels: np.ndarray) -> Layers:
  """Fits a model of scikit-learn to standardised rows; keeps its arrays."""
  from sklearn.preprocessing import StandardScaler

  scaler = StandardScaler().fit(rows)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # the step limit is meant
    model.fit(scaler.transform(rows), labels)
  if hasattr(model, 'coefs_'):
    weights, biases = model.coefs_, model.intercepts_
  else:
    weights, biases = [model.coef_.T], [model.intercept_]
  return Layers(
    *(np.asarray(part, np.float32) for part in (scaler.mean_, scaler.scale_)),
    [np.asarray(weight, np.float32) for weight in weights],
    [np.asarray(bias, np.float32) for bias in biases],
  )


def through_other_codec(clip: np.ndarray, number: int) -> np.ndarray:
  """A clip [S] through MP3, Vorbis or Opus, at a bit rate of its own.

  Args:
    clip: At 24 kHz.
    number: Of the clip; decides on codec and bit rate.
  """
  import soundfile

  container, codec = _CODECS[number % len(_CODECS)]
  rng = np.random.default_rng([number, 7])
  buffer = io.BytesIO()
  soundfile.write(
    buffer,
    clip.clip(-1.0, 1.0),
    SAMPLE_RATE,
    format=container,
    subtype=codec,
    compression_level=float(rng.uniform(_LOWEST_LEVEL, 1.0)),
  )
  buffer.seek(0)
  decoded, _ = soundfile.read(buffer, dtype='float32')
  return np.pad(decoded, (0, max(0, len(clip) - len(decoded))))[: len(clip)]


def main(source: str) -> None:
  """Trains both classifiers on a corpus and writes them."""
  split = CorpusSplit(sources.open_source(source, 'train'), store=None)
  crops = split.crops(_SECONDS, _CROPS_PER_PIECE, _CROPS)
  crops.sort(key=lambda crop: (crop.piece, crop.start_seconds))
  labels, found = [], []
  for first in range(0, len(crops), _CHUNK):
    clips = []
    for crop in crops[first : first + _CHUNK]:
      heard = split.attributes(crop)
      if heard['lead_family']:
        plain = split.read(crop)
        clips += [plain, through_other_codec(plain, len(labels))]
        labels.append((heard['lead_family'], heard['bpm']))
    found += feature_cache.features_of(np.stack(clips)) if clips else []
    print(f'{len(labels)} of at most {len(crops)} crops', flush=True)
  timbres, tempograms = zip(*found, strict=True)
  families, bpm = zip(*(row for row in labels for _ in range(2)), strict=True)
  sha256 = classifiers.save(
    fit_family(timbres, families),
    fit_tempo(np.stack(tempograms), bpm),
    {
      'corpus': 'rendered_music',
      'clips': len(labels),
      'codecs': [codec for _, codec in _CODECS],
    },
  )
  print(f'sha256: {sha256}')


if __name__ == '__main__':
  if len(sys.argv) != 2:
    sys.exit(f'usage: python -m {__spec__.name} SOURCE')
  main(sys.argv[1])
