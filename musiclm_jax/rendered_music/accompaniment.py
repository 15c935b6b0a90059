"""Accompaniment: bass lines, chord patterns, drums, fills.

Patterns list onsets in straight beats of a 4/4 bar; shorter bars take what
fits, and in 6/8 the second half of a beat is its third third.
"""

import numpy as np

from musiclm_jax.rendered_music import styles, theory
from musiclm_jax.rendered_music.score import Note

# (onset, duration, chord tone) with tone 0 root, 1 third, 2 fifth, 7 octave,
# 'next' a step from the next root.
BASS = {
  'root': ((0, 1.9, 0), (2, 1.9, 0)),
  'root_down': ((0, 1, 0),),
  'root_fifth': ((0, 0.9, 0), (2, 0.9, 2)),
  'walking': ((0, 0.9, 0), (1, 0.9, 1), (2, 0.9, 2), (3, 0.9, 'next')),
  'eighths': tuple((i / 2, 0.45, 0) for i in range(8)),
  'octaves': tuple((i / 2, 0.4, 7 * (i % 2)) for i in range(8)),
  'held': ((0, 4, 0),),
  'bossa': ((0, 1.4, 0), (1.5, 0.4, 2), (2, 1.4, 2), (3.5, 0.4, 0)),
  'shuffle': tuple((i / 2, 0.45, (0, 0, 2, 0)[i % 4]) for i in range(8)),
  'syncopated': (
    (0, 0.8, 0),
    (1, 0.4, 0),
    (1.5, 0.4, 7),
    (2.5, 0.4, 0),
    (3, 0.8, 2),
  ),
}
# (onset, duration); arpeggios play one chord tone an onset.
CHORDS = {
  'whole': ((0, 4),),
  'half': ((0, 1.9), (2, 1.9)),
  'beats': tuple((i, 0.85) for i in range(4)),
  'offbeat': tuple((i + 0.5, 0.4) for i in range(4)),
  'skank': tuple((i + 0.5, 0.25) for i in range(4)),
  'oompah': ((1, 0.5), (2, 0.5), (3, 0.5)),
  'strum': ((0, 0.9), (1, 0.45), (1.5, 0.45), (2, 0.9), (3, 0.45), (3.5, 0.45)),
  'stab': ((0, 0.35), (1.5, 0.35), (2, 0.35), (3.5, 0.35)),
  'pulse': tuple((i / 2, 0.35) for i in range(8)),
  'bossa': ((0, 0.5), (1, 0.5), (1.5, 0.9), (3, 0.9)),
  'arpeggio': tuple((i / 2, 0.55) for i in range(8)),
}
_ARPEGGIO = (0, 2, 1, 2, 3, 2, 1, 2)
_LEVELS = {'X': 116, 'x': 98, 'o': 66}


def _fit(onset: float, metre: str) -> float | None:
  """Moves an onset of a 4/4 bar into the metre; None if it has no place."""
  if onset >= theory.BEATS_PER_BAR[metre]:
    return None
  beat, rest = divmod(onset, 1)
  if metre == '6/8' and rest:
    rest = 2 / 3
  return beat + rest


def _spread(pattern: tuple, metre: str) -> list[tuple]:
  """The pattern's events of one bar, none longer than the bar."""
  bar = theory.BEATS_PER_BAR[metre]
  out = []
  for onset, duration, *more in pattern:
    at = _fit(onset, metre)
    if at is not None:
      out.append((at, min(duration, bar - at), *more))
  return out


def _velocity(base: float, energy: float, onset: float, rng) -> int:
  accent = 7 if onset < 1e-6 else 0
  value = base + 22 * energy + accent + rng.normal(0, 3)
  return int(np.clip(value, 25, 122))


def bass_bar(
  pattern: str,
  metre: str,
  tones: list[int],
  next_root: int,
  energy: float,
  rng: np.random.Generator,
) -> list[Note]:
  """One bar of bass, beats from the bar's start.

  Args:
    pattern: Name in `BASS`.
    metre: Of the bar.
    tones: Chord as MIDI pitches, root first.
    next_root: Root of the next bar's chord.
    energy: Of the section.
    rng: For velocities.
  """
  root = theory.fold(tones[0], 30, 43)
  out = []
  for onset, duration, tone in _spread(BASS[pattern], metre):
    if tone == 'next':
      value = theory.fold(next_root, 30, 43) + int(rng.choice((-2, 2, -1)))
    elif tone == 7:
      value = root + 12
    else:
      value = root + (tones[tone] - tones[0]) % 12
    out.append((onset, duration, value, _velocity(68, energy, onset, rng)))
  return out


def chord_bar(
  pattern: str,
  metre: str,
  voices: list[int],
  energy: float,
  rng: np.random.Generator,
) -> list[Note]:
  """One bar of chords or arpeggio from `voices`, lowest first."""
  out = []
  for i, (onset, duration) in enumerate(_spread(CHORDS[pattern], metre)):
    velocity = _velocity(60, energy, onset, rng)
    if pattern == 'arpeggio':
      step = _ARPEGGIO[i % len(_ARPEGGIO)]
      ladder = [*voices, voices[0] + 12]
      out.append((onset, duration, ladder[step % len(ladder)], velocity))
      continue
    for j, value in enumerate(voices):
      late = 0.02 * j if pattern == 'strum' else 0.0
      out.append((onset + late, duration - late, value, velocity))
  return out


def drum_bar(
  groove: dict[int, str],
  metre: str,
  energy: float,
  *,
  first: bool,
  fill: bool,
  rng: np.random.Generator,
) -> list[Note]:
  """One bar of drums.

  Args:
    groove: Drum -> steps.
    metre: Of the bar.
    energy: Of the section; soft sections leave out the soft hits.
    first: Whether a section begins here: with a cymbal.
    fill: Whether a section ends here: with a roll.
    rng: For velocities and the fill.
  """
  per_beat = theory.STEPS_PER_BEAT[metre]
  beats = theory.BEATS_PER_BAR[metre]
  fill_from = beats - (1 if rng.random() < 0.5 else min(2, beats - 1))
  out = []
  for drum, steps in groove.items():
    for step, mark in enumerate(steps):
      onset = step / per_beat
      if mark == '.' or (mark == 'o' and energy < 0.6):
        continue
      if fill and onset >= fill_from - 1e-6 and drum != styles.KICK:
        continue
      level = _LEVELS[mark] * (0.75 + 0.25 * energy) + rng.normal(0, 3)
      out.append((onset, 0.2, drum, int(np.clip(level, 30, 126))))
  if first and energy > 0.6:
    out.append((0.0, 1.5, styles.CRASH, int(90 * (0.7 + 0.3 * energy))))
  if fill:
    drums = (styles.SNARE, styles.SNARE, 48, styles.TOM, 43)
    half = per_beat // 2 if per_beat == 4 else 1
    count = round((beats - fill_from) * per_beat / half)
    for i in range(count):
      drum = drums[min(i * len(drums) // count, len(drums) - 1)]
      onset = fill_from + i * half / per_beat
      out.append((onset, 0.2, drum, int(80 + 30 * i / count)))
  return out


def percussion_bar(
  drum: int, metre: str, energy: float, rng: np.random.Generator
) -> list[Note]:
  """One bar of shaker, tambourine or conga in half beats, accented on beats."""
  per_beat = 2 if metre != '6/8' else 3
  out = []
  for i in range(theory.BEATS_PER_BAR[metre] * per_beat):
    accent = 18 if i % per_beat == 0 else 0
    velocity = 48 + accent + 20 * energy + rng.normal(0, 3)
    out.append((i / per_beat, 0.2, drum, int(np.clip(velocity, 20, 110))))
  return out
