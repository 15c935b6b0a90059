"""Noise for a codec that learns to denoise: crop [S] -> batch entry."""

import numpy as np

GAINS_DB = -30.0, 0.0  # of the noise, below the crop (SoundStream §IV-A)
_COLOURS = 0.0, 2.0  # power falls with f^c: 0 is white, 1 pink, 2 brown
_PEAK = 0.95


def coloured(rng: np.random.Generator, samples: int) -> np.ndarray:
  """Draws noise of a random colour, float32 [samples] with RMS 1."""
  spectrum = np.fft.rfft(rng.standard_normal(samples))
  frequency = np.maximum(np.arange(len(spectrum)), 1.0)
  spectrum *= frequency ** (-rng.uniform(*_COLOURS) / 2)
  noise = np.fft.irfft(spectrum, samples)
  return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def mixed(
  clean: np.ndarray, rng: np.random.Generator, probability: float
) -> dict[str, np.ndarray]:
  """Draws the codec's input, its target, and the flag that relates them.

  With noise, half of the flags are on, and the target is clean; where they
  are off the target is the input. Without noise the target is the crop,
  whatever the flag (SoundStream §III-F).

  Args:
    clean: float32 [S].
    rng: Of everything that is drawn.
    probability: Of noise.

  Returns:
    {'input' [S], 'waveform' [S], 'denoise' bool []}; both waveforms are
    scaled alike where their sum would clip.
  """
  denoise = np.asarray(rng.random() < 0.5)
  noisy = clean
  if rng.random() < probability:
    level = np.sqrt(np.mean(np.square(clean, dtype=np.float64)))
    gain = level * 10 ** (rng.uniform(*GAINS_DB) / 20)
    noisy = clean + np.float32(gain) * coloured(rng, len(clean))
    scale = np.float32(min(1.0, _PEAK / max(np.abs(noisy).max(), 1e-9)))
    noisy, clean = scale * noisy, scale * clean
  target = clean if denoise else noisy
  return {'input': noisy, 'waveform': target, 'denoise': denoise}
