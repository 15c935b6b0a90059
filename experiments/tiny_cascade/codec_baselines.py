"""What a codec must beat: distances of clips to others, or to poor versions.

clips [N, S] -> log-mel distance of each clip [N], in dB.
"""

import itertools

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.metrics.codec import distance, distances, log_mels

_VOCODER_BANDS = 8
_VOCODER_RANGE_HZ = (80.0, 10_000.0)
_ENVELOPE_HZ = 50.0


def random_pair_distances(real: np.ndarray, seed: int = 0) -> np.ndarray:
  """Distance of every clip to three others on average, [N] in dB.

  Args:
    real: Clips of different pieces [N, S], N >= 2.
    seed: Of the order of the clips.
  """
  mels = [log_mels(clip) for clip in real]
  order = np.random.default_rng(seed).permutation(len(mels))
  total = np.zeros(len(mels))
  shifts = range(1, min(4, len(mels)))
  for shift in shifts:
    for here, there in zip(order, np.roll(order, shift), strict=True):
      total[here] += distance(mels[here], mels[there])
  return total / len(shifts)


def mean_spectrum_distances(real: np.ndarray) -> np.ndarray:
  """Distance of each clip to its own mean log-mel spectrum, [N] in dB.

  It is what a codec reaches that keeps the timbre and loses all events. The
  mean is taken of the log-mels themselves, which flatters the baseline.
  """
  out = []
  for clip in real:
    mels = log_mels(clip)
    means = [np.broadcast_to(m.mean(axis=0), m.shape) for m in mels]
    out.append(distance(mels, means))
  return np.array(out)


def vocoder(waveform: np.ndarray, seed: int = 0) -> np.ndarray:
  """Resynthesises [S] from the envelopes of 8 bands, carried by noise."""
  from scipy import signal

  edges = np.geomspace(*_VOCODER_RANGE_HZ, _VOCODER_BANDS + 1)
  noise = np.random.default_rng(seed).standard_normal(len(waveform))
  smooth = signal.butter(2, _ENVELOPE_HZ, fs=SAMPLE_RATE, output='sos')
  out = np.zeros(len(waveform))
  for low, high in itertools.pairwise(edges):
    band = signal.butter(
      4, [low, high], 'bandpass', fs=SAMPLE_RATE, output='sos'
    )
    part = signal.sosfiltfilt(band, waveform)
    carrier = signal.sosfiltfilt(band, noise)
    power = np.maximum(signal.sosfiltfilt(smooth, np.square(part)), 0.0)
    out += np.sqrt(power) * carrier / np.sqrt(np.mean(np.square(carrier)))
  return out


def vocoder_distances(real: np.ndarray) -> np.ndarray:
  """Distance of each clip to its 8-band vocoder version, [N] in dB."""
  return distances(real, np.stack([vocoder(clip) for clip in real]))
