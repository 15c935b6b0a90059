"""A synthetic voice that hums or whistles: notes [N, 4] -> waveform [S].

Additive synthesis: one pitch curve with glides, vibrato, drift and the small
errors of an untrained singer, harmonics of it, and breath.
"""

import dataclasses

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE

_HOP = 24  # curves are made at 1 kHz
_RATE = SAMPLE_RATE // _HOP


@dataclasses.dataclass(frozen=True)
class Voice:
  """A way to sing a melody without words.

  Attributes:
    name: Of it.
    low: Lowest MIDI pitch.
    high: Highest MIDI pitch.
    harmonics: Partials at most.
    rolloff_db: Lowest and highest fall from octave to octave.
    breath_db: Lowest and highest level of breath below the tone.
  """

  name: str
  low: int
  high: int
  harmonics: int
  rolloff_db: tuple[float, float]
  breath_db: tuple[float, float]


VOICES = {
  voice.name: voice
  for voice in (
    Voice('hum', 45, 70, 8, (9.0, 16.0), (-45.0, -28.0)),
    Voice('whistle', 70, 96, 2, (24.0, 36.0), (-26.0, -14.0)),
  )
}
_GLIDE = 0.03, 0.11  # seconds from pitch to pitch
_VIBRATO_HZ = 4.5, 6.5
_VIBRATO = 0.0, 0.4  # semitones
_ERROR, _DRIFT = 0.12, 0.10  # semitones, standard deviations
_ATTACK = 0.03, 0.09  # seconds


def sing(
  notes: np.ndarray, voice: Voice, num_samples: int, rng: np.random.Generator
) -> np.ndarray:
  """Sings notes, one at a time: a later one ends those before it.

  Args:
    notes: [N, 4]: onset and duration in seconds, pitch, velocity.
    voice: Who sings.
    num_samples: Length of the result at 24 kHz.
    rng: Draws singer and errors.

  Returns:
    float32 [num_samples], silent where no note is.
  """
  if not len(notes):
    return np.zeros(num_samples, np.float32)
  rows = notes[np.argsort(notes[:, 0], kind='stable')]
  count = num_samples // _HOP + 2
  pitch = _pitch_curve(rows, count, rng)
  level = _level_curve(rows, count, rng)
  time, grid = np.arange(num_samples), _HOP * np.arange(count)
  hertz = 440.0 * 2.0 ** ((pitch - 69.0) / 12.0)
  phase = np.cumsum(np.interp(time, grid, hertz * 2.0 * np.pi / SAMPLE_RATE))
  rolloff = rng.uniform(*voice.rolloff_db)
  tone = np.zeros(num_samples)
  # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x): one sine for all.
  fundamental, twice_cosine = np.sin(phase), 2.0 * np.cos(phase)
  before, partial = 0.0, fundamental
  for k in range(1, voice.harmonics + 1):
    if k * hertz.max() < SAMPLE_RATE / 2:
      colour = rng.uniform(-3.0, 3.0) if k > 1 else 0.0
      tone += 10 ** ((colour - rolloff * np.log2(k)) / 20) * partial
    before, partial = partial, twice_cosine * partial - before
  swell = np.interp(time, grid, _breath_curve(count, rng))
  hiss = rng.standard_normal(num_samples, np.float32)
  breath = 10 ** (rng.uniform(*voice.breath_db) / 20)
  tone += breath * (swell * fundamental + 0.3 * hiss)
  return (0.3 * tone * np.interp(time, grid, level)).astype(np.float32)


def _smooth(curve: np.ndarray, seconds: float) -> np.ndarray:
  """Rounds the steps of a curve over so many seconds, without delay."""
  width = max(2 * round(seconds * _RATE / 2) + 1, 3)
  window = np.hanning(width + 2)[1:-1]
  padded = np.pad(curve, width // 2, mode='edge')
  return np.convolve(padded, window / window.sum(), 'valid')


def _pitch_curve(
  rows: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
  """MIDI pitch at each millisecond, held through rests."""
  aims = rows[:, 2] + rng.normal(0.0, _ERROR, len(rows))
  time = np.arange(count) / _RATE
  playing = np.searchsorted(rows[:, 0], time, side='right') - 1
  curve = _smooth(aims[playing.clip(0)], rng.uniform(*_GLIDE))
  slow = _smooth(rng.standard_normal(count), 0.4)
  curve += _DRIFT * slow / max(slow.std(), 1e-9)
  turn = 2 * np.pi * (rng.uniform(*_VIBRATO_HZ) * time + rng.random())
  return curve + rng.uniform(*_VIBRATO) * np.sin(turn)


def _level_curve(
  rows: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
  """Level at each millisecond: notes swell, and are set apart by a dip."""
  level = np.zeros(count)
  attack = rng.uniform(*_ATTACK)
  ends = np.minimum(
    rows[:, 0] + rows[:, 1], np.append(rows[1:, 0], np.inf) - 0.5 * attack
  )
  for (onset, _, _, velocity), end in zip(rows, ends, strict=True):
    begin, stop = round(onset * _RATE), round(end * _RATE)
    level[max(begin, 0) : max(stop, begin + 20, 0)] = velocity / 127.0
  return _smooth(level, attack)


def _breath_curve(count: int, rng: np.random.Generator) -> np.ndarray:
  """Noise of some 400 Hz about the pitch, as its envelope, RMS about 1."""
  curve = _smooth(rng.standard_normal(count), 0.005)
  return curve / max(curve.std(), 1e-9)
