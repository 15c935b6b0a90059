"""A composed piece before it sounds: what the composer hands the performer."""

import dataclasses

from musiclm_jax.rendered_music import theory
from musiclm_jax.rendered_music.programs import Program
from musiclm_jax.rendered_music.styles import Style

# Onset and duration in straight beats, MIDI pitch, velocity.
Note = tuple[float, float, int, int]


@dataclasses.dataclass(frozen=True)
class Section:
  """A stretch of a form.

  Attributes:
    label: E.g. `'verse'`; equal labels share melody and chords.
    start_bar: First bar.
    bars: Number of bars.
    turn: How often the label came before; later turns are varied.
    transpose: Semitones by which this turn is moved.
    energy: Loudness and fullness, in (0, 1].
    loop: Index of its chord loop.
    motif: Number of its melody motif.
  """

  label: str
  start_bar: int
  bars: int
  turn: int
  transpose: int
  energy: float
  loop: int
  motif: int


@dataclasses.dataclass
class Part:
  """One player.

  Attributes:
    role: `lead`, `chords`, `bass`, `drums`, …
    program: Instrument; None for drums.
    notes: In straight beats, unordered.
    pedal: Whether the sustain pedal is held from chord to chord.
  """

  role: str
  program: Program | None
  notes: list[Note]
  pedal: bool = False


@dataclasses.dataclass(frozen=True)
class Mix:
  """How a piece is recorded.

  Attributes:
    room: Name in `room.ROOMS`.
    tilt_db: Treble above (below) bass, from 100 Hz to 8 kHz.
    bands_db: Gains at `room.BANDS_HZ`.
    loudness: Aim in LUFS.
    lead_margin_db: Lead above the rest in the median of its bars.
    role_trims_db: Random trim of each part, in order.
    near_silence: Whether the piece is recorded far too softly.
  """

  room: str
  tilt_db: float
  bands_db: tuple[float, ...]
  loudness: float
  lead_margin_db: float
  role_trims_db: tuple[float, ...]
  near_silence: bool


@dataclasses.dataclass(frozen=True)
class Score:
  """A piece.

  Attributes:
    seed: Of the corpus.
    split: Of the piece.
    index: Within the split.
    style: Its templates.
    bpm: Beats a minute; the beat is dotted in 6/8.
    metre: E.g. `'3/4'`.
    tonic: Pitch class, 0 is C.
    mode: In `theory.MODES`.
    form: Name in `forms.FORMS`.
    sections: In order, without gaps.
    bars: Number of bars, the ending included.
    chord_roots: Degree of the chord of each bar, 1 is the tonic.
    parts: The lead first.
    melody: The lead's melody alone.
    swing: Share of a beat that its first half takes.
    timing: Standard deviation of onsets in seconds, cut at 10 ms.
    ending: `hold`, `ritard`, `fade` or `cut`.
    mix: How it is recorded.
  """

  seed: int
  split: str
  index: int
  style: Style
  bpm: float
  metre: str
  tonic: int
  mode: str
  form: str
  sections: tuple[Section, ...]
  bars: int
  chord_roots: tuple[int, ...]
  parts: tuple[Part, ...]
  melody: tuple[Note, ...]
  swing: float
  timing: float
  ending: str
  mix: Mix

  @property
  def beats_per_bar(self) -> int:
    """Beats in a bar."""
    return theory.BEATS_PER_BAR[self.metre]

  @property
  def key(self) -> str:
    """One of 24 keys, by name."""
    return theory.key_name(self.tonic, self.mode)

  def section_of(self, bar: int) -> Section:
    """The section that a bar belongs to; the last one holds the ending."""
    for section in self.sections:
      if bar < section.start_bar + section.bars:
        return section
    return self.sections[-1]
