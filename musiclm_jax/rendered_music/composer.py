"""Composes pieces: (seed, split, index) -> Score, a pure function.

Attributes are drawn independently of each other except where the style
dictates: otherwise "violin" would be learned from the tempo.
"""

import math

import numpy as np

from musiclm_jax.rendered_music import (
  band,
  forms,
  programs,
  room,
  splits,
  styles,
  theory,
)
from musiclm_jax.rendered_music.score import (
  Mix,
  Score,
)

MIN_BPM, MAX_BPM = 60.0, 180.0
NEAR_SILENCE_SHARE = 0.02
_ENDINGS = ('hold', 'ritard', 'fade', 'cut')
_ENDING_SHARES = (0.4, 0.3, 0.15, 0.15)
_PART_COUNTS = (0.07, 0.08, 0.15, 0.2, 0.2, 0.14, 0.1, 0.06)  # of 1 ... 8


def compose(seed: int, split: str, index: int) -> Score:
  """Composes one piece.

  Args:
    seed: Of the corpus.
    split: `'train'`, `'validation'` or `'test'`.
    index: Of the piece within its split.

  Returns:
    The same score for the same arguments, on any machine.
  """
  rng = np.random.default_rng([seed, splits.SPLITS.index(split), index])
  bpm = round(math.exp(rng.uniform(math.log(MIN_BPM), math.log(MAX_BPM))), 1)
  fitting = [s for s in styles.STYLES if s.bpm[0] <= bpm <= s.bpm[1]]
  style = fitting[rng.integers(len(fitting))]
  metre = str(rng.choice(style.metres))
  mode = str(rng.choice(style.modes))
  tonic = int(rng.integers(12))
  family = programs.LEAD_FAMILIES[rng.integers(len(programs.LEAD_FAMILIES))]
  lead = programs.LEADS[family][rng.integers(len(programs.LEADS[family]))]
  bar_seconds = 60.0 / bpm * theory.BEATS_PER_BAR[metre]
  form, plan = forms.choose(style, bar_seconds, rng)
  theme = forms.themes([label for label, _ in plan], style, split, rng)
  sections = forms.lay_out(plan, theme, rng)
  count = 1 + int(rng.choice(len(_PART_COUNTS), p=_PART_COUNTS))
  ending = str(rng.choice(_ENDINGS, p=_ENDING_SHARES))
  writer = band.Band(style, metre, tonic, mode, sections, ending, rng)
  parts, melody = writer.write(lead, count)
  return Score(
    seed=seed,
    split=split,
    index=index,
    style=style,
    bpm=bpm,
    metre=metre,
    tonic=tonic,
    mode=mode,
    form=form,
    sections=sections,
    bars=writer.bars,
    chord_roots=tuple(writer.roots),
    parts=tuple(parts),
    melody=tuple(melody),
    swing=rng.uniform(*style.swing) if metre != '6/8' else 0.5,
    timing=rng.uniform(0.001, 0.005),
    ending=ending,
    mix=_draw_mix(len(parts), rng),
  )


def _draw_mix(parts: int, rng: np.random.Generator) -> Mix:
  names = tuple(room.ROOMS)
  quiet = bool(rng.random() < NEAR_SILENCE_SHARE)
  return Mix(
    room=names[rng.integers(len(names))],
    tilt_db=rng.uniform(-7.0, 7.0),
    bands_db=tuple(rng.uniform(-2.5, 2.5, size=len(room.BANDS_HZ))),
    loudness=rng.uniform(-75.0, -60.0) if quiet else rng.uniform(-30.0, -10.0),
    lead_margin_db=rng.uniform(6.0, 10.0),
    role_trims_db=tuple(rng.uniform(-2.0, 2.0, size=parts)),
    near_silence=quiet,
  )
