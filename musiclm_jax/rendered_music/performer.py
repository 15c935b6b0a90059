"""Performs a score: Score -> waveform [S] at 24 kHz, and what was measured.

Straight beats get swing, tempo, human timing and pedal; each part is rendered
alone, set to a level at which the lead stays audible, mixed, and recorded in
a room at a loudness.
"""

import dataclasses
import itertools

import numpy as np

from musiclm_jax.rendered_music import room, splits, synthesis
from musiclm_jax.rendered_music.score import Score

SAMPLE_RATE = synthesis.SAMPLE_RATE
MAX_JITTER = 0.010  # seconds
TAIL_SECONDS = 2.5
MAX_SECONDS = 120.0
GRID_SECONDS = 0.5
LEVEL_FLOOR = -100.0  # dB
_RITARD = 1.3  # the last bar's beats are so much longer
_ROLE_DB = {
  'lead': 0.0,
  'drums': 0.0,
  'bass': -2.0,
  'chords': -4.0,
  'pad': -8.0,
  'arpeggio': -6.0,
  'counter': -8.0,
  'shaker': -8.0,
}


@dataclasses.dataclass(frozen=True)
class Performance:
  """A recorded piece.

  Attributes:
    waveform: float32 [S] in [-1, 1].
    notes: One array [N, 4] a part: onset and duration in seconds as played,
      pitch, velocity.
    melody: The lead's melody [M, 3]: onset, pitch, duration in seconds.
    beats: Times of all beats in seconds.
    gains_db: Gain of each part in the mix.
    levels: dB full scale of each dry part [parts, G], one value a 0.5 s.
    lead_over_rest_db: Lead's level above the rest in each bar [bars]; NaN
      where the lead rests.
    powers: K-weighted mean square of each 100 ms [S // 2400].
  """

  waveform: np.ndarray
  notes: tuple[np.ndarray, ...]
  melody: np.ndarray
  beats: np.ndarray
  gains_db: np.ndarray
  levels: np.ndarray
  lead_over_rest_db: np.ndarray
  powers: np.ndarray

  @property
  def bars(self) -> int:
    """Number of bars."""
    return len(self.lead_over_rest_db)


def perform(score: Score) -> Performance:
  """Performs and records a score; the same score sounds the same."""
  rng = np.random.default_rng(
    [score.seed, splits.SPLITS.index(score.split), score.index, 1]
  )
  clock = _Clock(score)
  length = min(clock.end + TAIL_SECONDS, MAX_SECONDS)
  num_samples = int(length * SAMPLE_RATE)
  notes = [_humanise(part, score, clock, rng) for part in score.parts]
  stems = [
    synthesis.render(
      played,
      part.program.number if part.program else 0,
      part.program is None,
      num_samples,
    )
    for part, played in zip(score.parts, notes, strict=True)
  ]
  bar_edges = clock.beats[:: score.beats_per_bar]
  edges = np.append(np.rint(bar_edges * SAMPLE_RATE), num_samples).astype(int)
  gains, over = _balance(score, stems, edges)
  dry = np.zeros(num_samples, np.float32)
  for gain, stem in zip(gains, stems, strict=True):
    dry += np.float32(gain) * stem
  if score.ending == 'fade':
    dry *= _fade(num_samples)
  mix = score.mix
  wet = room.record(dry, mix.room, mix.tilt_db, mix.bands_db)
  waveform, gain, powers = room.set_loudness(wet, mix.loudness)
  fade = _fade(num_samples) if score.ending == 'fade' else None
  levels = np.stack(
    [
      _levels(stem, g * gain, fade)
      for g, stem in zip(gains, stems, strict=True)
    ]
  )
  return Performance(
    waveform=waveform,
    notes=tuple(notes),
    melody=_melody(score, clock),
    beats=clock.beats,
    gains_db=20 * np.log10(np.maximum(gains, 1e-9)),
    levels=levels,
    lead_over_rest_db=over,
    powers=powers,
  )


def swung(beats: np.ndarray, swing: float) -> np.ndarray:
  """Moves straight beats: a beat's first half takes the share `swing`."""
  whole = np.floor(beats + 1e-9)
  part = beats - whole
  part = np.where(
    part < 0.5, part * 2 * swing, swing + (part - 0.5) * 2 * (1 - swing)
  )
  return whole + part


class _Clock:
  """Beats to seconds: constant tempo, swing, at times a slower last bar."""

  def __init__(self, score: Score):
    count = score.bars * score.beats_per_bar
    lengths = np.full(count, 60.0 / score.bpm)
    if score.ending == 'ritard':
      lengths[-2 * score.beats_per_bar : -score.beats_per_bar] *= np.linspace(
        1.05, _RITARD, score.beats_per_bar
      )
      lengths[-score.beats_per_bar :] *= _RITARD
    times = np.concatenate([[0.0], np.cumsum(lengths)])
    self.beats, self.end = times[:-1], float(times[-1])
    self._times, self._swing = times, score.swing

  def seconds(self, beats: np.ndarray) -> np.ndarray:
    """Times of positions in straight beats."""
    played = swung(beats, self._swing)
    return np.interp(played, np.arange(len(self._times)), self._times)


def _humanise(part, score: Score, clock: _Clock, rng) -> np.ndarray:
  """A part's notes in seconds, as a player would place and hold them."""
  if not part.notes:
    return np.zeros((0, 4))
  rows = np.array(sorted(part.notes), float)
  onsets = clock.seconds(rows[:, 0])
  ends = clock.seconds(rows[:, 0] + rows[:, 1])
  spread = score.timing * (0.5 if part.role == 'drums' else 1.0)
  jitter = rng.normal(0.0, spread, len(rows)).clip(-MAX_JITTER, MAX_JITTER)
  if part.pedal:
    bars = np.append(clock.beats[:: score.beats_per_bar], clock.end)
    release = bars[np.searchsorted(bars, onsets + 1e-6).clip(0, len(bars) - 1)]
    ends = np.maximum(ends, release - 0.02)
  begins = np.maximum(onsets + jitter, 0.0)
  held = np.maximum(ends - begins, 0.03)
  return np.stack([begins, held, rows[:, 2], rows[:, 3]], axis=1)


def _melody(score: Score, clock: _Clock) -> np.ndarray:
  rows = np.array(sorted(score.melody), float).reshape(-1, 4)
  onsets = clock.seconds(rows[:, 0])
  ends = clock.seconds(rows[:, 0] + rows[:, 1])
  return np.stack([onsets, rows[:, 2], ends - onsets], axis=1)


def _energies(stem: np.ndarray, edges: np.ndarray) -> np.ndarray:
  """Mean square between edges."""
  return np.array(
    [
      float(np.dot(stem[a:b], stem[a:b])) / max(b - a, 1)
      for a, b in itertools.pairwise(edges)
    ]
  )


def _balance(
  score: Score, stems: list[np.ndarray], edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Gains of the parts, and the lead's level above the rest in each bar.

  Parts are set to their role's level while they play; then the rest is scaled
  so that the lead is `lead_margin_db` above it in the median of its bars.
  """
  energies = np.stack([_energies(stem, edges) for stem in stems])
  active = energies > 1e-4 * energies.max(axis=1, keepdims=True) + 1e-12
  gains = np.zeros(len(stems))
  for i, part in enumerate(score.parts):
    if active[i].any():
      level = 10 * np.log10(energies[i][active[i]].mean())
      aim = _ROLE_DB[part.role] + (score.mix.role_trims_db[i] if i else 0.0)
      gains[i] = 10 ** ((aim - level) / 20)
  powers = energies * gains[:, None] ** 2
  rest = powers[1:].sum(axis=0)
  both = active[0] & (rest > 1e-6)
  over = np.full(len(rest), np.nan)
  if both.any():
    over[both] = 10 * np.log10(powers[0][both] / rest[both])
    change = np.nanmedian(over) - score.mix.lead_margin_db
    gains[1:] *= 10 ** (change / 20)
    over -= change
  over[active[0] & ~both] = 60.0
  return gains, over


def _fade(num_samples: int) -> np.ndarray:
  """A fade-out over the last eighth, float32 [S]."""
  count = num_samples // 8
  out = np.ones(num_samples, np.float32)
  out[-count:] = np.linspace(1.0, 0.0, count, dtype=np.float32) ** 2
  return out


def _levels(
  stem: np.ndarray, gain: float, fade: np.ndarray | None
) -> np.ndarray:
  """Level of a part in dB full scale, one value each 0.5 s."""
  step = int(GRID_SECONDS * SAMPLE_RATE)
  faded = stem if fade is None else stem * fade
  edges = np.append(np.arange(0, len(stem), step), len(stem))
  powers = _energies(faded, edges) * gain**2
  return np.maximum(10 * np.log10(powers + 1e-20), LEVEL_FLOOR)
