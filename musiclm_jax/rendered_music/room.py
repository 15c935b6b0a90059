"""Rooms, equalisation and loudness of a recording.

dry mix float32 [S] -> filtered by a room's impulse response and an equaliser,
brought to a loudness in LUFS (ITU-R BS.1770-4), limited below full scale.
"""

import functools

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE

BANDS_HZ = (80.0, 250.0, 800.0, 2500.0, 7000.0)
_EQ_TAPS = 257
PEAK = 0.97
_KNEE = 0.6
_MAX_LIMITING = 2.0  # at most 6 dB are left to the limiter
_BLOCK = SAMPLE_RATE // 10  # 100 ms

# Name -> (reverberation seconds, wet level, treble kept, early reflections s)
ROOMS = {
  'booth': (0.06, 0.10, 0.5, (0.004, 0.007)),
  'room': (0.35, 0.22, 0.5, (0.009, 0.014, 0.021, 0.031)),
  'hall': (1.3, 0.30, 0.3, (0.019, 0.033, 0.047, 0.071)),
  'plate': (0.8, 0.28, 0.9, (0.003,)),
}


@functools.cache
def impulse_response(name: str) -> np.ndarray:
  """A synthetic impulse response, float32 [N], the direct sound first.

  Exponentially decaying noise whose treble dies sooner, after a few early
  reflections; the tail's energy is `wet` ** 2 of the direct sound's.
  """
  seconds, wet, treble, early = ROOMS[name]
  rng = np.random.default_rng([75, list(ROOMS).index(name)])
  count = int(seconds * SAMPLE_RATE)
  time = np.arange(count) / SAMPLE_RATE
  noise = rng.standard_normal(count)
  dull = np.convolve(noise, np.hanning(24) / np.hanning(24).sum(), 'same')
  fast = np.exp(-6.9 * time / (seconds * treble))
  slow = np.exp(-6.9 * time / seconds)
  tail = fast * noise + slow * dull * 2.0
  tail[: int(early[0] * SAMPLE_RATE)] = 0.0
  tail *= wet * 2.0 / np.sqrt(np.square(tail).sum())
  for i, at in enumerate(early):
    tail[min(int(at * SAMPLE_RATE), count - 1)] += wet * 0.6 / (i + 1)
  tail[0] = 1.0
  return tail.astype(np.float32)


def equaliser(tilt_db: float, bands_db: tuple[float, ...]) -> np.ndarray:
  """A linear-phase equaliser, float32 [257], centred.

  Args:
    tilt_db: Gain that 8 kHz gets over 100 Hz, linear in octaves.
    bands_db: Gains at `BANDS_HZ`, between which they are interpolated.
  """
  grid = np.fft.rfftfreq(_EQ_TAPS - 1, 1 / SAMPLE_RATE)
  octave = np.log2(np.clip(grid, 100.0, 8000.0) / 900.0)
  gain = tilt_db * octave / np.log2(80.0)
  gain = gain + np.interp(
    np.log2(np.maximum(grid, 20.0)), np.log2(BANDS_HZ), bands_db
  )
  taps = np.fft.irfft(10 ** (gain / 20))
  taps = np.roll(taps, (_EQ_TAPS - 1) // 2)
  taps = np.append(taps, taps[0]) * np.hanning(_EQ_TAPS)
  return taps.astype(np.float32)


def record(
  dry: np.ndarray, room: str, tilt_db: float, bands_db: tuple[float, ...]
) -> np.ndarray:
  """The dry mix as recorded in the room; same length, no delay."""
  from scipy import signal

  taps = equaliser(tilt_db, bands_db)
  response = np.convolve(impulse_response(room), taps).astype(np.float32)
  delay = (_EQ_TAPS - 1) // 2
  wet = signal.oaconvolve(dry, response, 'full')
  return wet[delay : delay + len(dry)].astype(np.float32)


def block_powers(waveform: np.ndarray) -> np.ndarray:
  """K-weighted mean square of each 100 ms [S // 2400] (BS.1770-4)."""
  from scipy import signal

  weighted = signal.sosfilt(_k_weighting(), waveform)
  count = len(weighted) // _BLOCK
  blocks = weighted[: count * _BLOCK].reshape(count, _BLOCK)
  return np.einsum('ij,ij->i', blocks, blocks) / _BLOCK


@functools.cache
def _k_weighting() -> np.ndarray:
  """BS.1770's shelf and high pass at our rate, as biquads [2, 6]."""
  rows = []
  k = np.tan(np.pi * 1681.974450955533 / SAMPLE_RATE)
  q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
  band = high**0.4996667741545416
  a0 = 1 + k / q + k * k
  rows.append(
    [
      (high + band * k / q + k * k) / a0,
      2 * (k * k - high) / a0,
      (high - band * k / q + k * k) / a0,
      1.0,
      2 * (k * k - 1) / a0,
      (1 - k / q + k * k) / a0,
    ]
  )
  k, q = np.tan(np.pi * 38.13547087602444 / SAMPLE_RATE), 0.5003270373238773
  a0 = 1 + k / q + k * k
  rows.append([1, -2, 1, 1, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0])
  return np.array(rows)


def integrated_loudness(powers: np.ndarray) -> float:
  """Gated loudness in LUFS of `block_powers`; -inf for digital silence."""
  if len(powers) < 4:
    return -np.inf
  windows = np.convolve(powers, np.full(4, 0.25), 'valid')
  level = -0.691 + 10 * np.log10(windows + 1e-20)
  kept = windows[level > -70.0]
  if not len(kept):
    return float(-0.691 + 10 * np.log10(powers.mean() + 1e-20))
  gate = -0.691 + 10 * np.log10(kept.mean()) - 10.0
  kept = windows[level > max(gate, -70.0)]
  return float(-0.691 + 10 * np.log10(kept.mean()))


def set_loudness(
  waveform: np.ndarray, aim: float
) -> tuple[np.ndarray, float, np.ndarray]:
  """Scales to `aim` LUFS, then limits; what would clip stays softer.

  Returns:
    The waveform with peak <= 0.97, the linear gain, and `block_powers` of
    the result.
  """
  powers = block_powers(waveform)
  loudness = integrated_loudness(powers)
  gain = 10 ** ((aim - loudness) / 20) if np.isfinite(loudness) else 0.0
  peak = float(np.abs(waveform).max(initial=0.0))
  gain = min(gain, PEAK * _MAX_LIMITING / max(peak, 1e-9))
  out = waveform * np.float32(gain)
  if peak * gain <= PEAK:
    return out, gain, powers * gain**2
  loud = np.abs(out)
  span = PEAK - _KNEE
  soft = _KNEE + span * np.tanh((loud - _KNEE) / span)
  out = np.where(loud > _KNEE, np.copysign(soft, out), out)
  out = out.astype(np.float32)
  return out, gain, block_powers(out)
