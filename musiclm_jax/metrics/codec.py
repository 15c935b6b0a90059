"""Codec quality: distances of spectra that the codec was not trained on.

clips [N, S] and their reconstructions -> distance per clip [N]; perplexity per
quantizer level. numpy and librosa: nothing here shares code with the training
loss (Slaney mels, base-10 logs).
"""

import functools

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE

# window -> mel bands; hop is a quarter of the window
_RESOLUTIONS = {512: 32, 1024: 64, 2048: 96}
_VISQOL_RATE = 48_000  # of its audio mode
_STFT_WINDOW = 1200  # 50 ms
_FLOOR = 1e-4  # relative to a full-scale sine: -80 dB
_HARMONICS_HZ = (800, 5000)  # where mels of equal number merge harmonics
_LOUDEST = 0.05  # share of a clip's bins


def log_mels(waveform: np.ndarray) -> list[np.ndarray]:
  """Log10 mel magnitudes of one clip [S], one [T, M] per resolution."""
  import librosa

  out = []
  for window in _RESOLUTIONS:
    spectrum = librosa.stft(
      np.asarray(waveform),
      n_fft=window,
      hop_length=window // 4,
      window=np.hanning(window),
      center=False,
    )
    magnitudes = np.abs(spectrum.T) * (4 / window)
    out.append(np.log10(magnitudes @ _mel_filters(window) + _FLOOR))
  return out


def distance(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
  """Mean absolute difference of log-mels, in dB, resolutions equally."""
  return 20 * float(
    np.mean([np.abs(a - b).mean() for a, b in zip(ours, theirs, strict=True)])
  )


def distances(real: np.ndarray, other: np.ndarray) -> np.ndarray:
  """`distance` of each clip pair of two [N, S] arrays, [N] in dB."""
  return np.array(
    [
      distance(log_mels(a), log_mels(b))
      for a, b in zip(real, other, strict=True)
    ]
  )


def stft_distances(real: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Mean absolute difference of linear-frequency magnitudes, [N] in dB.

  A window of 50 ms tells harmonics apart that mels above 2 kHz merge.

  Args:
    real: Clips [N, S].
    other: Their reconstructions.
  """
  return np.array(
    [
      20 * float(np.abs(_log_stft(a) - _log_stft(b)).mean())
      for a, b in zip(real, other, strict=True)
    ]
  )


def loudest_bins(real: np.ndarray, other: np.ndarray) -> np.ndarray:
  """How much louder a reconstruction is where its clip is loudest, [N] in dB.

  The mean difference of magnitudes over the loudest 5 % of a clip's bins
  (20 Hz by 12.5 ms, window 50 ms) between 0.8 and 5 kHz, which in music are
  its harmonics. A codec that puts noise of the right envelope in their place
  is far below 0, though the distances of mels hardly see it. Noise compared
  with other noise of the same level has -8.5 dB: its loudest bins are there by
  chance.

  Args:
    real: Clips [N, S].
    other: Their reconstructions.
  """
  low, high = (hz * _STFT_WINDOW // SAMPLE_RATE for hz in _HARMONICS_HZ)
  out = []
  for clip, coded in zip(real, other, strict=True):
    ours, theirs = (_log_stft(x)[low : high + 1] for x in (clip, coded))
    loudest = ours >= np.quantile(ours, 1.0 - _LOUDEST)
    out.append(20 * float((theirs - ours)[loudest].mean()))
  return np.array(out)


def visqol(real: np.ndarray, other: np.ndarray) -> np.ndarray:
  """ViSQOL in its audio mode, MOS-LQO of each clip, [N] in 1 to 5.

  By the package visqol-python, at 48 kHz, to which both are resampled.

  Args:
    real: Clips [N, S] at 24 kHz.
    other: Their reconstructions.
  """
  import soxr
  from visqol import VisqolApi

  api = VisqolApi()
  api.create(mode='audio')
  out = []
  for pair in zip(real, other, strict=True):
    clip, coded = (
      soxr.resample(np.asarray(x, float), SAMPLE_RATE, _VISQOL_RATE)
      for x in pair
    )
    out.append(api.measure_from_arrays(clip, coded, _VISQOL_RATE).moslqo)
  return np.array(out)


def si_sdr(real: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Scale-invariant signal-to-distortion ratio of each clip, [N] in dB."""
  real, other = np.asarray(real, float), np.asarray(other, float)
  energy = np.maximum(np.square(real).sum(axis=1), 1e-12)
  target = (real * other).sum(axis=1, keepdims=True) / energy[:, None] * real
  noise = np.square(other - target).sum(axis=1)
  signal_energy = np.square(target).sum(axis=1)
  return 10 * np.log10(np.maximum(signal_energy, 1e-12) / (noise + 1e-12))


def code_histograms(codes: np.ndarray, codebook_size: int) -> np.ndarray:
  """Counts the codes of every clip: [N, T, Q] -> [N, Q, K]."""
  counts = np.apply_along_axis(np.bincount, 1, codes, minlength=codebook_size)
  return counts.swapaxes(1, 2)


def perplexity(counts: np.ndarray) -> np.ndarray:
  """exp of the entropy of counts [..., K] over the last axis, [...]."""
  total = np.maximum(counts.sum(axis=-1, keepdims=True), 1)
  share = counts / total
  logs = np.log(np.maximum(share, 1e-30))
  return np.exp(-(share * logs).sum(axis=-1))


def _log_stft(waveform: np.ndarray) -> np.ndarray:
  """Log10 magnitudes of one clip [S], [F, T], with a floor of -80 dB."""
  import librosa

  spectrum = librosa.stft(
    np.asarray(waveform),
    n_fft=_STFT_WINDOW,
    hop_length=_STFT_WINDOW // 4,
    window=np.hanning(_STFT_WINDOW),
    center=False,
  )
  return np.log10(np.abs(spectrum) * (4 / _STFT_WINDOW) + _FLOOR)


@functools.cache
def _mel_filters(window: int) -> np.ndarray:
  """Slaney mel filters, each summing to 1 over bins, [F, M]."""
  import librosa

  filters = librosa.filters.mel(
    sr=SAMPLE_RATE, n_fft=window, n_mels=_RESOLUTIONS[window], fmin=30
  ).T
  return filters / np.maximum(filters.sum(axis=0, keepdims=True), 1e-12)


# Of originals and reconstructions [N, S]: measure -> [N] in dB.
MEASURES = {
  'si_sdr': si_sdr,
  'log_mel': distances,
  'stft': stft_distances,
  'loudest_bins': loudest_bins,
}
