"""What the classifiers read: timbre by the second, periodicities of a clip.

waveform [S] at 24 kHz -> timbre [W, D] of one-second windows, tempogram
[2, bands, lags]. numpy and librosa only: nothing is shared with the cascade.
"""

import functools

import numpy as np

from experiments.tiny_cascade import music

SAMPLE_RATE = 24_000
_WINDOW, _HOP = 2048, 480  # 20 ms
_MELS = 64
_SECOND = 50  # frames
_CEPSTRA = 20
_HARMONICS = 10
_FLOOR_DB = -80.0

BINS_PER_OCTAVE = 24
LOWEST_BPM, _OCTAVES = 30.0, 4
NUM_LAGS = BINS_PER_OCTAVE * _OCTAVES
_ONSET_RATE = 100  # Hz
_BANDS = ((0, 14), (14, 40), (40, 64), (0, 64))


def log_mel(waveform: np.ndarray) -> np.ndarray:
  """Log-mel power in dB relative to the clip's loudest band [T, 64]."""
  power = np.square(_magnitudes(waveform, _WINDOW, _HOP)) @ _filters(_WINDOW)
  decibels = 10 * np.log10(power + 1e-10)
  return np.maximum(decibels - decibels.max(), _FLOOR_DB)


def timbre(waveform: np.ndarray) -> np.ndarray:
  """Timbre of overlapping one-second windows [W, D], half a second apart."""
  from scipy import fft, ndimage

  mel = log_mel(waveform)
  cepstra = fft.dct(mel, axis=1, norm='ortho')[:, :_CEPSTRA]
  steady = ndimage.median_filter(mel, (17, 1))
  events = mel - steady
  rise = np.diff(mel, axis=0, prepend=mel[:1])
  wide = rise.reshape(len(rise), 8, -1).mean(axis=2)
  lead = _lead_harmonics(waveform, len(mel))
  rows = []
  for start in range(0, len(mel) - _SECOND + 1, _SECOND // 2):
    part = slice(start, start + _SECOND)
    level = mel[part].max(axis=1, keepdims=True)
    shape = mel[part] - level
    rows.append(
      np.concatenate(
        [
          shape.mean(axis=0),
          mel[part].std(axis=0),
          cepstra[part].mean(axis=0),
          cepstra[part].std(axis=0),
          np.abs(np.diff(cepstra[part], axis=0)).mean(axis=0),
          np.abs(events[part]).reshape(_SECOND, 8, -1).mean(axis=(0, 2)),
          np.quantile(wide[part], (0.05, 0.5, 0.95), axis=0).ravel(),
          lead[part].mean(axis=0),
          lead[part].std(axis=0),
        ]
      )
    )
  return np.asarray(rows, np.float32)


def _lead_harmonics(waveform: np.ndarray, num_frames: int) -> np.ndarray:
  """Level of the leading pitch's harmonics in dB, and its pitch [T, 12]."""
  magnitudes = _magnitudes(waveform, 4096, 960)
  salience, share = music.pitch_salience(waveform)
  leader = salience.argmax(axis=1)
  hz = 440 * 2 ** ((leader + 36 - 69) / 12)
  count = min(len(magnitudes), len(leader))
  rows = np.arange(count)
  levels = []
  for harmonic in range(1, _HARMONICS + 1):
    centre = np.rint(hz[:count] * harmonic * 4096 / SAMPLE_RATE).astype(int)
    centre = np.minimum(centre, magnitudes.shape[1] - 2)
    levels.append(
      np.maximum.reduce([magnitudes[rows, centre + k] for k in (-1, 0, 1)])
    )
  decibels = 20 * np.log10(np.stack(levels, axis=1) + 1e-4)
  decibels -= decibels.max(axis=1, keepdims=True)
  columns = [decibels, leader[:count, None] / 6.0, 10 * share[:count, None]]
  frames = np.repeat(np.concatenate(columns, axis=1), 2, axis=0)
  short = max(0, num_frames - len(frames))
  return np.pad(frames, ((0, short), (0, 0)), mode='edge')[:num_frames]


def tempogram(waveform: np.ndarray) -> np.ndarray:
  """Periodicities of the onsets on a log-tempo axis, [2, 4, 96].

  First the autocorrelation, which also peaks at half and third tempi, then
  the Fourier magnitude, which also peaks at double and triple ones; per band
  (low, middle, high, all). A change of tempo shifts the last axis.
  """
  onsets = _onset_envelopes(waveform)
  bpm = LOWEST_BPM * 2 ** (np.arange(NUM_LAGS) / BINS_PER_OCTAVE)
  length = onsets.shape[1]
  onsets = onsets - onsets.mean(axis=1, keepdims=True)
  spectrum = np.fft.rfft(onsets, 4 * length, axis=1)
  correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :length]
  correlation /= np.maximum(correlation[:, :1], 1e-9)
  correlation *= length / (length - np.minimum(np.arange(length), length / 2))
  lags = 60 * _ONSET_RATE / bpm
  frequencies = bpm / 60 * 4 * length / _ONSET_RATE
  windowed = np.abs(np.fft.rfft(onsets * np.hanning(length), 4 * length))
  windowed /= np.maximum(np.linalg.norm(windowed, axis=1, keepdims=True), 1e-9)
  out = np.zeros((2, len(_BANDS), NUM_LAGS), np.float32)
  for band in range(len(_BANDS)):
    out[0, band] = np.interp(lags, np.arange(length), correlation[band])
    out[1, band] = 10 * np.interp(
      frequencies, np.arange(windowed.shape[1]), windowed[band]
    )
  return out


def _onset_envelopes(waveform: np.ndarray) -> np.ndarray:
  """Half-wave rectified rise of log-mel bands at 100 Hz, [4, T]."""
  hop = SAMPLE_RATE // _ONSET_RATE
  power = np.square(_magnitudes(waveform, 1024, hop)) @ _filters(1024)
  decibels = 10 * np.log10(power + 1e-10)
  decibels = np.maximum(decibels, decibels.max() - 60)
  rise = np.maximum(decibels[3:] - decibels[:-3], 0.0)
  return np.stack([rise[:, low:high].mean(axis=1) for low, high in _BANDS])


def _magnitudes(waveform: np.ndarray, window: int, hop: int) -> np.ndarray:
  """Hann STFT magnitudes [T, F] in float32, zeros before and after."""
  import librosa

  spectrum = librosa.stft(
    np.asarray(waveform, np.float32),
    n_fft=window,
    hop_length=hop,
    window=np.hanning(window),
    pad_mode='constant',
  )
  return np.abs(spectrum.T)


@functools.cache
def _filters(window: int) -> np.ndarray:
  """Slaney mel filters [F, 64] from 40 Hz to 11 kHz."""
  import librosa

  filters = librosa.filters.mel(
    sr=SAMPLE_RATE, n_fft=window, n_mels=_MELS, fmin=40, fmax=11_000
  )
  return filters.T.astype(np.float32)
