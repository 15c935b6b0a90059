"""VGGish's front end: waveform [S] at 16 kHz -> log-mels [T, 64]. NumPy only.

Published with AudioSet's VGGish: magnitudes of a periodic Hann window of 25 ms
every 10 ms, 64 bands that are triangles over mel (not over Hz), natural
logarithm with an offset. An example of the network is 96 frames, 0.96 s.
Transformed in float64: beside a loud tone the noise of a float32 transform is
more than the offset of the logarithm hides, and differs between machines.
"""

import functools
import os
from concurrent import futures

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.framing import num_frames

SAMPLE_RATE = 16_000
WINDOW_LENGTH = 400
HOP_LENGTH = 160
FFT_SIZE = 512
NUM_MELS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
LOG_OFFSET = 0.01
EXAMPLE_FRAMES = 96
# What the frames of an example stretch over.
EXAMPLE_SAMPLES = (EXAMPLE_FRAMES - 1) * HOP_LENGTH + WINDOW_LENGTH
_FRAMES_AT_ONCE = 4096  # bounds the memory that a long waveform takes
_FRAMES_IN_CACHE = 256  # of one call of the transform


def _mel(hz: np.ndarray | float) -> np.ndarray:
  """Converts Hz to mel with the constant that VGGish rounds."""
  return 1127.0 * np.log(1.0 + np.asarray(hz, np.float64) / 700.0)


@functools.cache
def mel_matrix() -> np.ndarray:
  """Makes the triangles, linear in mel; the bin of 0 Hz weighs nothing.

  Returns:
    float64 [257, 64]; do not write to it.
  """
  bins = _mel(np.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1))[:, None]
  edges = np.linspace(_mel(LOW_HZ), _mel(HIGH_HZ), NUM_MELS + 2)
  low, top, high = edges[:-2], edges[1:-1], edges[2:]
  rise, fall = (bins - low) / (top - low), (high - bins) / (high - top)
  matrix = np.maximum(0.0, np.minimum(rise, fall))
  matrix[0] = 0.0
  matrix.setflags(write=False)
  return matrix


def log_mel(waveform: np.ndarray) -> np.ndarray:
  """Computes log-mels without padding, T = 1 + (S - 400) // 160.

  Args:
    waveform: [S] in [-1, 1] at 16 kHz, at least 400 samples.

  Returns:
    float32 [T, 64].

  Raises:
    UsageError: If it is shorter than a window.
  """
  waveform = np.asarray(waveform, np.float64)
  total = num_frames(len(waveform), WINDOW_LENGTH, HOP_LENGTH)
  if not total:
    raise UsageError(
      f'expected {WINDOW_LENGTH} samples or more, got {len(waveform)}: give a '
      'longer waveform'
    )
  phase = 2.0 * np.pi * np.arange(WINDOW_LENGTH) / WINDOW_LENGTH
  window = 0.5 - 0.5 * np.cos(phase)
  frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW_LENGTH)
  frames = frames[::HOP_LENGTH]
  out = np.empty((total, NUM_MELS), np.float32)

  def fill(start: int) -> None:
    magnitudes = _magnitudes(frames[start : start + _FRAMES_AT_ONCE], window)
    mels = magnitudes @ mel_matrix().astype(np.float32)
    out[start : start + len(mels)] = np.log(mels + np.float32(LOG_OFFSET))

  starts = range(0, total, _FRAMES_AT_ONCE)
  if len(starts) == 1:
    fill(0)
  else:  # NumPy lets other threads run while it computes
    with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as threads:
      list(threads.map(fill, starts))
  return out


def _magnitudes(frames: np.ndarray, window: np.ndarray) -> np.ndarray:
  """Spectra of frames [T, 400]: float32 [T, 257], transformed in float64."""
  # Kept from part to part, zeros after the window included: transforms that
  # pad and allocate anew cost half as much again.
  padded = np.zeros((_FRAMES_IN_CACHE, FFT_SIZE))
  out = np.empty((len(frames), FFT_SIZE // 2 + 1), np.float32)
  for first in range(0, len(frames), _FRAMES_IN_CACHE):
    few = frames[first : first + _FRAMES_IN_CACHE]
    filled = padded[: len(few)]
    np.multiply(few, window, out=filled[:, :WINDOW_LENGTH])
    out[first : first + len(few)] = np.abs(np.fft.rfft(filled, axis=-1))
  return out
