"""The same notes on other instruments: piece -> two takes [2, S].

Each group of pieces has two casts, different role by role. `solo` is the
lead's melody alone; `band` is the whole piece without its drums. All takes are
recorded in one room at one level, so that two takes of a piece have nothing in
common but the notes.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from musiclm_jax.rendered_music import composer, performer, programs
from musiclm_jax.rendered_music.score import Mix, Note, Part, Score

SECONDS = 10.0
FRAME = 0.04
GROUP = 8  # pieces of one pair of casts
KINDS = ('solo', 'band')
_SHARED_RANGE = 20  # semitones that both leads can play
_FAMILIES = {
  'chords': ('piano', 'guitar', 'organ'),
  'pad': ('pad', 'strings', 'synth/choir'),
  'arpeggio': ('guitar', 'mallets', 'piano', 'synth/choir'),
  'counter': ('strings', 'reed/flute', 'brass', 'mallets'),
}

Cast = dict[str, programs.Program]  # role -> instrument


@dataclasses.dataclass(frozen=True)
class Takes:
  """Two takes of each of U pieces.

  Attributes:
    first: float32 [U, S] at 24 kHz.
    second: The same notes by the other cast.
    heard: Frames of 40 ms in which the lead holds a note, [U, T].
    groups: Number of the casts of each piece.
    leads: Names of the two leads of each piece.
  """

  first: np.ndarray
  second: np.ndarray
  heard: np.ndarray
  groups: list[int]
  leads: list[tuple[str, str]]


def play(kind: str, pieces: int, seed: int, split: str = 'test') -> Takes:
  """Plays the first so many pieces of a split twice.

  Args:
    kind: One of `KINDS`.
    pieces: A multiple of `GROUP`.
    seed: Of the corpus.
    split: Whose pieces.
  """
  rows, heard, groups, leads = ([], []), [], [], []
  for index in range(pieces):
    group = index // GROUP
    casts = draw_casts(np.random.default_rng([seed, group, 11]))
    score = composer.compose(seed, split, index)
    for cast, out in zip(casts, rows, strict=True):
      played = performer.perform(_recast(score, kind, cast, casts))
      start = int(played.melody[0, 0] / FRAME)
      first = round(start * FRAME * performer.SAMPLE_RATE)
      out.append(
        played.waveform[first : first + round(SECONDS * performer.SAMPLE_RATE)]
      )
    heard.append(_held(played.melody, start))
    groups.append(group)
    leads.append(tuple(cast['lead'].name for cast in casts))
  return Takes(
    np.stack(rows[0]), np.stack(rows[1]), np.stack(heard), groups, leads
  )


def draw_casts(rng: np.random.Generator) -> tuple[Cast, Cast]:
  """Two casts, all of whose instruments are of different families, role by
  role; the two basses are two instruments of theirs."""
  first, second = {}, {}
  while True:
    families = rng.choice(programs.LEAD_FAMILIES, 2, replace=False)
    pair = [_one(programs.LEADS[family], rng) for family in families]
    low, high = max(p.low for p in pair), min(p.high for p in pair)
    if high - low >= _SHARED_RANGE:
      first['lead'], second['lead'] = pair
      break
  for role, families in _FAMILIES.items():
    for cast, family in zip(
      (first, second), rng.choice(families, 2, replace=False), strict=True
    ):
      cast[role] = _one(
        [p for p in programs.PROGRAMS if p.family == family], rng
      )
  basses = [p for p in programs.PROGRAMS if p.family == 'bass']
  for cast, i in zip(
    (first, second), rng.choice(len(basses), 2, replace=False), strict=True
  ):
    cast['bass'] = basses[i]
  return first, second


def _one(
  choices: Sequence[programs.Program], rng: np.random.Generator
) -> programs.Program:
  return choices[rng.integers(len(choices))]


def _recast(
  score: Score, kind: str, cast: Cast, casts: tuple[Cast, Cast]
) -> Score:
  """The score for other instruments; the melody by octaves in reach of both."""
  pair = [c['lead'] for c in casts]
  low, high = max(p.low for p in pair), min(p.high for p in pair)
  pitches = np.array([note[2] for note in score.melody])

  def outside(shift: int) -> int:
    moved = pitches + shift
    return int(((moved < low) | (moved > high)).sum())

  shift = min((0, -12, 12, -24, 24), key=outside)
  # No more bars than are audible.
  beats = score.beats_per_bar
  first = int(min(note[0] for note in score.melody)) // beats
  bars = first + math.ceil((SECONDS + 1) * score.bpm / 60 / beats) + 1
  bars = min(bars, score.bars)

  def begin(notes: Sequence[Note]) -> list[Note]:
    return [note for note in notes if note[0] < bars * beats]

  lead = score.melody if kind == 'solo' else score.parts[0].notes
  melody = [(b, d, p + shift, v) for b, d, p, v in begin(lead)]
  parts = [Part('lead', cast['lead'], melody)]
  if kind == 'band':
    parts += [
      Part(part.role, cast[part.role], begin(part.notes))
      for part in score.parts[1:]
      if part.program is not None
    ]
  mix = Mix('room', 0.0, (0.0,) * 5, -20.0, 8.0, (0.0,) * len(parts), False)
  return dataclasses.replace(
    score,
    bars=bars,
    parts=tuple(parts),
    melody=tuple(begin(score.melody)),
    mix=mix,
    ending='cut',
  )


def _held(melody: np.ndarray, start: int) -> np.ndarray:
  """Frames from frame `start` on at whose middle a note is held, [T]."""
  times = FRAME * (start + np.arange(round(SECONDS / FRAME)) + 0.5)
  onset, _, duration = melody.T[:, :, None]
  return ((times >= onset) & (times < onset + duration)).any(axis=0)
