"""How far a coded clip is from its original, and whether it comes late.

Each measure makes log10 magnitudes of a clip [S], a list of [T, F]; the
distance of two is `codec.distance`, in dB.
"""

import librosa
import numpy as np
from scipy import signal

from musiclm_jax.metrics import codec

_FLOOR = 1e-4  # relative to a full-scale sine: -80 dB
_WINDOW = 1200  # 50 ms: the training loss has powers of two, in mels
_LOW_HZ = 4000  # Opus at its lowest rates carries no more
_CQT_HOP = 512
_CQT_BINS = 84  # semitones from C1
_SEARCHED = 4800  # samples of delay either way


def log_stft(waveform: np.ndarray) -> list[np.ndarray]:
  """Linear frequency, 0 to 12 kHz in steps of 20 Hz, hop 12.5 ms."""
  spectrum = librosa.stft(
    waveform,
    n_fft=_WINDOW,
    hop_length=_WINDOW // 4,
    window=np.hanning(_WINDOW),
    center=False,
  )
  return [np.log10(np.abs(spectrum.T) * (4 / _WINDOW) + _FLOOR)]


def log_stft_low(waveform: np.ndarray) -> list[np.ndarray]:
  """`log_stft` up to 4 kHz."""
  last = _LOW_HZ * _WINDOW // codec.SAMPLE_RATE
  return [log_stft(waveform)[0][:, : last + 1]]


def log_cqt(waveform: np.ndarray) -> list[np.ndarray]:
  """Semitones from 33 to 3,951 Hz, hop 21 ms (librosa)."""
  rate = codec.SAMPLE_RATE
  transform = librosa.cqt(
    waveform, sr=rate, hop_length=_CQT_HOP, n_bins=_CQT_BINS, scale=False
  )
  lengths, _ = librosa.filters.wavelet_lengths(
    freqs=librosa.cqt_frequencies(_CQT_BINS, fmin=librosa.note_to_hz('C1')),
    sr=rate,
  )
  return [np.log10(2 * np.abs(transform.T) / lengths + _FLOOR)]


DISTANCES = {'log_stft': log_stft, 'log_stft_4k': log_stft_low}
SLOW_DISTANCES = {'log_mel': codec.log_mels, 'log_cqt': log_cqt}


def lag(clip: np.ndarray, coded: np.ndarray) -> tuple[int, float]:
  """Samples that `coded` [S] comes late, and the correlation there."""
  products = signal.correlate(coded, clip, 'full', 'fft')
  middle = len(clip) - 1
  reach = min(_SEARCHED, middle)
  near = products[middle - reach : middle + reach + 1]
  best = int(near.argmax())
  norm = np.sqrt(np.square(clip).sum() * np.square(coded).sum())
  return best - reach, float(near[best] / max(norm, 1e-9))


def shifted(waveforms: np.ndarray, samples: int) -> np.ndarray:
  """Takes a delay out of [N, S]."""
  out = np.zeros_like(waveforms)
  size = waveforms.shape[1]
  first, last = max(0, -samples), min(size, size - samples)
  out[:, first:last] = waveforms[:, first + samples : last + samples]
  return out
