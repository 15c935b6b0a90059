"""PANNs' front end: waveform [S] at 32 kHz -> log-mels [T, 64]. NumPy only.

Published with Cnn14 (Kong et al. 2020): power of a periodic Hann window of
1,024 samples every 320, centred with reflections, 64 bands by Slaney's scale
between 50 and 14,000 Hz whose triangles have one area, in decibels.
"""

import functools

import numpy as np

SAMPLE_RATE = 32_000
WINDOW_LENGTH = 1024
HOP_LENGTH = 320
NUM_MELS = 64
LOW_HZ, HIGH_HZ = 50.0, 14_000.0
LEAST_POWER = 1e-10
# Slaney's scale: linear below 1 kHz, 27 steps for a factor of 6.4 above.
_HZ_PER_MEL, _BREAK_HZ, _LOG_STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0


def _mel(hz: float) -> float:
  """Converts Hz to Slaney's mel."""
  if hz < _BREAK_HZ:
    return hz / _HZ_PER_MEL
  return _BREAK_HZ / _HZ_PER_MEL + float(np.log(hz / _BREAK_HZ)) / _LOG_STEP


def _hz(mel: np.ndarray) -> np.ndarray:
  """Undoes `_mel`."""
  knee = _BREAK_HZ / _HZ_PER_MEL
  above = _BREAK_HZ * np.exp(_LOG_STEP * np.maximum(mel - knee, 0.0))
  return np.where(mel < knee, mel * _HZ_PER_MEL, above)


@functools.cache
def mel_matrix() -> np.ndarray:
  """Makes the triangles, linear in Hz, each of area 1 in Hz.

  Returns:
    float64 [513, 64]; do not write to it.
  """
  bins = np.linspace(0.0, SAMPLE_RATE / 2, WINDOW_LENGTH // 2 + 1)[:, None]
  edges = _hz(np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), NUM_MELS + 2))
  low, top, high = edges[:-2], edges[1:-1], edges[2:]
  rise, fall = (bins - low) / (top - low), (high - bins) / (high - top)
  matrix = np.maximum(0.0, np.minimum(rise, fall)) * 2.0 / (high - low)
  matrix.setflags(write=False)
  return matrix


def log_mel(waveform: np.ndarray) -> np.ndarray:
  """Computes log-mels, T = 1 + S // 320.

  Args:
    waveform: [S] in [-1, 1] at 32 kHz, more than 512 samples.

  Returns:
    float32 [T, 64], in decibels.
  """
  half = WINDOW_LENGTH // 2
  padded = np.pad(np.asarray(waveform, np.float64), half, mode='reflect')
  phase = 2.0 * np.pi * np.arange(WINDOW_LENGTH) / WINDOW_LENGTH
  window = 0.5 - 0.5 * np.cos(phase)
  frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_LENGTH)
  spectrum = np.fft.rfft(frames[::HOP_LENGTH] * window, axis=-1)
  power = np.square(spectrum.real) + np.square(spectrum.imag)
  mels = np.maximum(power @ mel_matrix(), LEAST_POWER)
  return (10.0 * np.log10(mels)).astype(np.float32)
