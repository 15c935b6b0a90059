"""Forms: returning sections, fitted to 60-120 seconds.

Section labels that return bring melody and chords back, varied and at times
transposed: this is the long-range structure of a piece.
"""

import numpy as np

from musiclm_jax.rendered_music import splits, styles, theory
from musiclm_jax.rendered_music.score import Section

FORMS = {
  'aaba': ('intro', 'A', 'A', 'B', 'A', 'outro'),
  'abaca': ('A', 'B', 'A', 'C', 'A'),
  'verse_chorus': (
    *('intro', 'verse', 'chorus', 'verse', 'chorus'),
    *('bridge', 'chorus', 'outro'),
  ),
  'song': ('verse', 'chorus', 'verse', 'break', 'chorus'),
  'build': ('intro', 'A', 'B', 'break', 'A', 'B', 'outro'),
  'chorus_blues': ('A', 'A'),
}
_SHORT = ('intro', 'outro', 'break', 'bridge')  # half as long as others
_ENERGY = {
  'intro': 0.6,
  'verse': 0.75,
  'A': 0.8,
  'B': 0.9,
  'C': 0.95,
  'chorus': 1.0,
  'bridge': 0.8,
  'break': 0.5,
  'outro': 0.65,
}
# Sections that share a theme with another label.
_THEME_OF = {'intro': 'first', 'outro': 'first', 'break': 'last'}
SHORTEST, LONGEST = 60.0, 116.0  # seconds; the last chord rings on
NUM_MOTIFS = 48


def choose(
  style: styles.Style, bar_seconds: float, rng: np.random.Generator
) -> tuple[str, list[tuple[str, int]]]:
  """Draws a form of the style that lasts 60 to 116 seconds.

  Args:
    style: Its forms are tried; sections hold whole chord loops.
    bar_seconds: Length of a bar.
    rng: Of the piece.

  Returns:
    The form's name and (label, bars) of its sections.
  """
  unit = 12 if len(theory.LOOPS[style.loops[0]]) == 12 else 4
  found: dict[str, list] = {}
  for name in (*style.forms, 'abaca', 'song', 'chorus_blues'):
    if found and name not in style.forms:
      break
    for times in (1, 2, 3):
      labels = FORMS[name] + FORMS[name][1:] * (times - 1)
      for size in range(unit, 25, unit):
        plan = [(x, size // 2 if x in _SHORT else size) for x in labels]
        seconds = bar_seconds * (1 + sum(bars for _, bars in plan))
        if SHORTEST <= seconds <= LONGEST:
          found.setdefault(name, []).append(plan)
  name = sorted(found)[rng.integers(len(found))]
  return name, found[name][rng.integers(len(found[name]))]


def themes(
  labels: list[str], style: styles.Style, split: str, rng: np.random.Generator
) -> dict[str, tuple[int, int]]:
  """Draws (loop, motif) of every label, such as belong to the split."""
  drawn: dict[str, tuple[int, int]] = {}
  own = [label for label in dict.fromkeys(labels) if label not in _THEME_OF]
  for label in own:
    loop = int(rng.choice(style.loops))
    motifs = [m for m in range(NUM_MOTIFS) if splits.of_theme(loop, m) == split]
    drawn[label] = (loop, int(rng.choice(motifs)))
  for label, source in _THEME_OF.items():
    drawn[label] = drawn[own[0] if source == 'first' else own[-1]]
  return drawn


def lay_out(
  plan: list[tuple[str, int]],
  theme: dict[str, tuple[int, int]],
  rng: np.random.Generator,
) -> tuple[Section, ...]:
  """Places the sections; a last return is transposed three times in ten."""
  sections, turns, bar = [], {}, 0
  labels = [label for label, _ in plan]
  shift = int(rng.choice((1, 2, 2, 3, 5, -2))) if rng.random() < 0.3 else 0
  main = [i for i, x in enumerate(labels) if x not in _SHORT]
  for i, (label, bars) in enumerate(plan):
    turn = turns.get(label, 0)
    moved = shift if i >= main[-1] and labels.count(labels[main[-1]]) > 1 else 0
    loop, motif = theme[label]
    sections.append(
      Section(label, bar, bars, turn, moved, _ENERGY[label], loop, motif)
    )
    turns[label] = turn + 1
    bar += bars
  return tuple(sections)
