"""Levels: waveform [..., S] -> dBFS [...]. NumPy only."""

import numpy as np

_LOWEST_POWER = 1e-12


def rms_dbfs(waveform: np.ndarray) -> np.ndarray:
  """Root mean square level in dBFS: a full-scale square wave is 0.

  Silence, and a waveform without samples, is at -120.
  """
  power = np.square(np.asarray(waveform, np.float64)).sum(axis=-1)
  power = power / max(np.shape(waveform)[-1], 1)
  return 10 * np.log10(np.maximum(power, _LOWEST_POWER))
