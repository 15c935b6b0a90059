"""Melodies: a bank of motifs, phrases made of them, returns that vary.

A motif is a number: its two bars of rhythm and its contour follow from it in
every metre. Phrases of four bars state it, move it, and end in a cadence.
"""

import functools

import numpy as np

from musiclm_jax.rendered_music import theory
from musiclm_jax.rendered_music.programs import Program
from musiclm_jax.rendered_music.score import Note, Section

_T = 1 / 3
_RHYTHMS = {
  '4/4': (
    (1, 1, 1, 1),
    (1, 1, 2),
    (1, 0.5, 0.5, 1, 1),
    (0.5, 0.5, 1, 0.5, 0.5, 1),
    (1.5, 0.5, 1, 1),
    (1.5, 0.5, 2),
    (1, 0.5, 0.5, 2),
    (0.5, 0.5, 0.5, 0.5, 1, 1),
    (1, 1, 0.5, 0.5, 1),
    (2, 0.5, 0.5, 1),
    (1, 0.5, 0.5, 0.5, 0.5, 1),
    (1, 1, 1, 0.5, 0.5),
  ),
  '3/4': (
    (1, 1, 1),
    (2, 1),
    (1.5, 0.5, 1),
    (1, 0.5, 0.5, 1),
    (0.5, 0.5, 1, 1),
    (1, 1, 0.5, 0.5),
    (2, 0.5, 0.5),
    (1, 0.5, 0.5, 0.5, 0.5),
  ),
  '6/8': (
    (2 * _T, _T, 2 * _T, _T),
    (_T, _T, _T, 2 * _T, _T),
    (1, 2 * _T, _T),
    (2 * _T, _T, 1),
    (_T, _T, _T, _T, _T, _T),
    (1, _T, _T, _T),
    (2 * _T, _T, _T, _T, _T),
  ),
}
_STEPS = (-3, -2, -1, -1, -1, 1, 1, 1, 2, 3)
_PHRASE_BARS = 4


@functools.lru_cache(1024)
def motif(
  number: int, metre: str
) -> tuple[tuple[tuple[float, float, int], ...], ...]:
  """Two bars of (onset, duration, degree), beats within the bar."""
  rng = np.random.default_rng([20230126, number])
  picks, start = rng.integers(1 << 30, size=2), int(rng.choice((0, 2, 4)))
  steps = rng.choice(_STEPS, size=16)
  degree, at, bars = start, 0, []
  for pick in picks:
    rhythm = _RHYTHMS[metre][int(pick) % len(_RHYTHMS[metre])]
    onset, bar = 0.0, []
    for duration in rhythm:
      bar.append((onset, float(duration), degree))
      step = int(steps[at])
      degree += step if -2 <= degree + step <= 8 else -step
      onset, at = onset + duration, at + 1
    bars.append(tuple(bar))
  return tuple(bars)


class Melodist:
  """Writes the melody of one piece on one instrument."""

  def __init__(
    self,
    program: Program,
    tonic: int,
    mode: str,
    metre: str,
    rng: np.random.Generator,
  ):
    """Draws what stays the same through the piece."""
    self._program, self._mode, self._metre = program, mode, metre
    self._beats = theory.BEATS_PER_BAR[metre]
    self._tonic = tonic
    self._moves = {}
    self._activity = rng.uniform(0.0, 0.5)
    self._length = float(rng.choice((0.95, 0.9, 0.8, 0.6)))
    self._rng = rng

  def write(
    self, section: Section, roots: list[int], sevenths: bool
  ) -> list[Note]:
    """The melody of a section in beats from its start.

    Args:
      section: Its motif, transposition and turn are used.
      roots: Chord degree of each bar.
      sevenths: Whether chords have four notes.
    """
    moves = self._moves.setdefault(
      section.label, self._rng.choice((-2, -1, 1, 2), size=8)
    )
    notes: list[Note] = []
    for bar, root in enumerate(roots):
      place = bar % _PHRASE_BARS
      unit = motif(section.motif, self._metre)[bar % 2]
      shift = int(moves[(bar // 2) % 8]) if (bar // 2) % 2 else 0
      last = place == _PHRASE_BARS - 1 or bar == len(roots) - 1
      chord = theory.chord_degrees(root, sevenths)
      bar_notes = self._cadence(unit) if last else unit
      bar_notes = self._vary(bar_notes, section.turn)
      for onset, duration, degree in bar_notes:
        notes.append(
          self._note(
            bar * self._beats + onset,
            duration,
            degree + shift,
            chord,
            section,
            (place * self._beats + onset) / (_PHRASE_BARS * self._beats),
          )
        )
    return notes

  def _cadence(self, unit: tuple) -> tuple:
    """Keeps the first beats and ends in a long note and a breath."""
    half = self._beats / 2
    kept = [note for note in unit if note[0] < half - 1e-6]
    kept[-1] = (kept[-1][0], half - kept[-1][0], kept[-1][2])
    breath = 0.5 if self._beats > 2 else _T
    return (*kept, (half, self._beats - half - breath, kept[0][2]))

  def _vary(self, unit: tuple, turn: int) -> list:
    """Divides long notes: by nature of the piece, more at each return."""
    share = min(self._activity * 0.5 + 0.12 * turn, 0.5)
    out = []
    for onset, duration, degree in unit:
      divisible = duration >= 1 - 1e-6
      if divisible and self._rng.random() < share:
        part = 2 * _T if self._metre == '6/8' and duration < 1.1 else None
        first = part if part else duration / 2
        neighbour = degree + int(self._rng.choice((-1, 1)))
        out.append((onset, first, degree))
        out.append((onset + first, duration - first, neighbour))
      else:
        out.append((onset, duration, degree))
    return out

  def _note(self, beat, duration, degree, chord, section, place) -> Note:
    low, high = self._program.low, self._program.high
    center = (low + high) / 2
    home = self._tonic + section.transpose
    home += 12 * round((center - 3 - home) / 12)
    value = theory.pitch(degree, home, self._mode)
    strong = abs(beat - round(beat)) < 1e-6 and duration >= 0.6
    if strong:
      tones = [theory.pitch(d, home, self._mode) for d in chord]
      value = theory.nearest(tones, value, value - 6, value + 6)
    within = beat % self._beats
    accent = 12 if within < 1e-6 else 5 if strong else -5
    arc = 8 * np.sin(np.pi * min(place, 1.0))
    velocity = 76 + 20 * section.energy + accent + arc
    velocity += self._rng.normal(0, 2)
    return (
      beat,
      duration * self._length,
      theory.fold(value, low, high),
      int(np.clip(velocity, 40, 124)),
    )
