"""The band: who plays what, instrument by instrument, bar by bar."""

from musiclm_jax.rendered_music import (
  accompaniment,
  melody,
  programs,
  styles,
  theory,
)
from musiclm_jax.rendered_music.score import Note, Part, Section

_POLYPHONIC = ('piano', 'mallets', 'organ', 'guitar')
_ROLE_FAMILIES = {
  'chords': ('piano', 'guitar', 'organ'),
  'pad': ('pad', 'pad', 'strings', 'synth/choir'),
  'arpeggio': ('guitar', 'mallets', 'piano', 'synth/choir'),
  'counter': ('strings', 'reed/flute', 'brass', 'mallets'),
}
_STYLE_PROGRAMS = {  # what a style dictates; the lead's family never doubles
  ('chiptune', 'chords'): (80, 81),
  ('chiptune', 'arpeggio'): (80, 81),
  ('chiptune', 'counter'): (80,),
  ('chiptune', 'bass'): (38, 39),
  ('techno', 'chords'): (81, 89),
  ('techno', 'arpeggio'): (80, 81),
  ('techno', 'bass'): (38, 39),
  ('film strings', 'chords'): (48, 44),
  ('film strings', 'pad'): (48, 52),
  ('film strings', 'bass'): (32,),
  ('march', 'chords'): (61, 60),
  ('march', 'counter'): (73, 56),
  ('waltz', 'bass'): (32,),
  ('swing jazz', 'bass'): (32,),
  ('swing jazz', 'chords'): (0, 26),
  ('bossa nova', 'chords'): (24, 4),
  ('bossa nova', 'bass'): (32, 33),
  ('reggae', 'chords'): (27, 18),
  ('folk', 'chords'): (25, 24),
  ('rock', 'chords'): (29, 27, 18),
  ('funk', 'chords'): (27, 4, 17),
}
_VOICE_CENTER = {'chords': 60, 'pad': 64, 'arpeggio': 69}


class Band:
  """Writes the parts of one piece, section by section, bar by bar."""

  def __init__(self, style, metre, tonic, mode, sections, ending, rng):
    """Takes what the composer has drawn; `rng` draws the rest."""
    self.style, self.metre, self.tonic, self.mode = style, metre, tonic, mode
    self.sections, self.ending, self.rng = sections, ending, rng
    self.beats = theory.BEATS_PER_BAR[metre]
    self.bars = sections[-1].start_bar + sections[-1].bars + 1
    self.roots = [
      theory.LOOPS[s.loop][bar % len(theory.LOOPS[s.loop])]
      for s in sections
      for bar in range(s.bars)
    ] + [1]
    self.pattern = str(rng.choice(style.chords))
    self.drum = int(
      rng.choice((styles.SHAKER, styles.TAMBOURINE, styles.CONGA))
    )

  def write(
    self, lead: programs.Program, count: int
  ) -> tuple[list[Part], list[Note]]:
    """Writes `count` parts, the lead first; also the melody alone."""
    roles = self._roles(count)
    melody = self._write_melody(lead, alone=count == 1)
    notes = list(melody)
    if count == 1 and lead.family in _POLYPHONIC:
      notes += self._left_hand(lead)
    parts = [Part('lead', lead, notes, lead.family == 'piano')]
    used = {lead.family}
    for role in roles:
      if role in ('drums', 'shaker'):
        parts.append(Part(role, None, self._drums(role, roles)))
        continue
      program = self._program(role, used, parts)
      written = self._pitched(role, program, roles)
      pedal = program.family == 'piano' and role in ('chords', 'arpeggio')
      parts.append(Part(role, program, written, pedal))
    return parts, melody

  def _roles(self, count: int) -> list[str]:
    """The roles beside the lead, in the order in which they join."""
    groove = self.style.drums.get(self.metre)
    band = [r for r in self.style.band if r != 'drums' or groove]
    return band[: count - 1]

  def _program(self, role: str, used: set, parts: list[Part]):
    """Draws an instrument that is neither the lead's family nor taken."""
    taken = {p.program.number for p in parts if p.program}
    if role == 'bass':
      own = self.style.name, 'bass'
      numbers = _STYLE_PROGRAMS.get(own, (32, 33, 34, 35, 33))
      return programs.BY_NUMBER[int(self.rng.choice(numbers))]
    numbers = [
      n
      for n in _STYLE_PROGRAMS.get((self.style.name, role), ())
      if programs.BY_NUMBER[n].family not in used and n not in taken
    ]
    if numbers:
      return programs.BY_NUMBER[int(self.rng.choice(numbers))]
    families = [f for f in _ROLE_FAMILIES[role] if f not in used]
    family = families[self.rng.integers(len(families))]
    free = [
      p
      for p in programs.PROGRAMS
      if p.family == family and p.number not in taken
    ]
    return free[self.rng.integers(len(free))]

  def _plays(self, role: str, rank: int, section: Section) -> bool:
    """Whether a role plays in a section: soft sections are thinner."""
    if section.label in ('chorus', 'A', 'B', 'C'):
      return True
    if section.label == 'break':
      return rank % 2 == 0
    kept = {'intro': 3, 'verse': 4, 'outro': 4, 'bridge': 3}
    return rank < kept.get(section.label, 9)

  def _write_melody(self, lead: programs.Program, alone: bool) -> list[Note]:
    """The lead's melody, a rest here and there, and its last note."""
    melodist = melody.Melodist(
      lead, self.tonic, self.mode, self.metre, self.rng
    )
    out: list[Note] = []
    for section in self.sections:
      silent = section.label == 'intro' and not alone
      if silent and self.rng.random() < 0.35:
        continue
      first = section.start_bar
      roots = self.roots[first : first + section.bars]
      rests = {
        bar
        for bar in range(3, section.bars, 4)
        if not alone and self.rng.random() < 0.08
      }
      for beat, *rest in melodist.write(section, roots, self.style.sevenths):
        if int(beat // self.beats) not in rests:
          out.append((first * self.beats + beat, *rest))
    if self.ending in ('hold', 'ritard'):
      last = self.sections[-1]
      home = theory.fold(self.tonic + last.transpose, lead.low, lead.high)
      out.append(((self.bars - 1) * self.beats, self.beats, home, 96))
    return out

  def _left_hand(self, lead: programs.Program) -> list[Note]:
    """Softer chords below the melody of a soloist who can play both."""
    center = max(lead.low - 7, 45)
    pattern = str(self.rng.choice(('arpeggio', 'beats')))
    return [
      (beat, duration, value, max(velocity - 22, 25))
      for beat, duration, value, velocity in self._chords(
        pattern, center, lambda section: True
      )
    ]

  def _chords(self, pattern: str, center: int, plays) -> list[Note]:
    out = []
    for bar in range(self.bars):
      section = self._section(bar)
      if not plays(section):
        continue
      voices = theory.voicing(self._tones(bar, section), center, 3)
      if bar == self.bars - 1:
        if self.ending in ('fade', 'cut'):
          continue
        notes = [(0.02 * i, self.beats, v, 84) for i, v in enumerate(voices)]
      else:
        notes = accompaniment.chord_bar(
          pattern, self.metre, voices, section.energy, self.rng
        )
      out += [(bar * self.beats + n[0], *n[1:]) for n in notes]
    return out

  def _pitched(self, role: str, program, roles: list[str]) -> list[Note]:
    rank = roles.index(role)
    if role == 'bass':
      return self._bass(lambda s: self._plays(role, rank, s))
    if role == 'counter':
      return self._counter(program, lambda s: self._plays(role, rank, s))
    pattern = {'pad': 'whole', 'arpeggio': 'arpeggio'}.get(role, self.pattern)
    low = max(program.low + 5, _VOICE_CENTER[role] - 7)
    center = min(max(_VOICE_CENTER[role], low), program.high - 4)
    return self._chords(pattern, center, lambda s: self._plays(role, rank, s))

  def _bass(self, plays) -> list[Note]:
    out = []
    for bar in range(self.bars):
      section = self._section(bar)
      if not plays(section):
        continue
      tones = self._tones(bar, section)
      if bar == self.bars - 1:
        if self.ending in ('fade', 'cut'):
          continue
        notes = [(0.0, self.beats, theory.fold(tones[0], 30, 43), 96)]
      else:
        following = self._tones(bar + 1, self._section(bar + 1))[0]
        notes = accompaniment.bass_bar(
          self.style.bass,
          self.metre,
          tones,
          following,
          section.energy,
          self.rng,
        )
      out += [(bar * self.beats + n[0], *n[1:]) for n in notes]
    return out

  def _counter(self, program, plays) -> list[Note]:
    """A slow second voice: one chord tone a bar, nearest to the last."""
    out, value = [], (program.low + program.high) // 2
    for bar in range(self.bars - 1):
      section = self._section(bar)
      if not plays(section):
        continue
      tones = self._tones(bar, section)[1:]
      value = theory.nearest(tones, value, program.low, program.high)
      velocity = int(62 + 24 * section.energy)
      out.append((bar * self.beats, self.beats * 0.95, value, velocity))
    return out

  def _drums(self, role: str, roles: list[str]) -> list[Note]:
    out, rank = [], roles.index(role)
    groove = self.style.drums.get(self.metre, {})
    for bar in range(self.bars - 1):
      section = self._section(bar)
      if not self._plays(role, rank, section):
        continue
      place = bar - section.start_bar
      if role == 'shaker':
        notes = accompaniment.percussion_bar(
          self.drum, self.metre, section.energy, self.rng
        )
      else:
        fill = place == section.bars - 1 and self.rng.random() < 0.7
        notes = accompaniment.drum_bar(
          groove,
          self.metre,
          section.energy,
          first=place == 0,
          fill=fill,
          rng=self.rng,
        )
      out += [(bar * self.beats + n[0], *n[1:]) for n in notes]
    if role == 'drums' and self.ending in ('hold', 'ritard'):
      end = (self.bars - 1) * self.beats
      out += [(end, 1.5, styles.CRASH, 90), (end, 0.3, styles.KICK, 100)]
    return out

  def _section(self, bar: int) -> Section:
    for section in self.sections:
      if bar < section.start_bar + section.bars:
        return section
    return self.sections[-1]

  def _tones(self, bar: int, section: Section) -> list[int]:
    """The bar's chord as pitches from octave 4 on, root first."""
    home = 60 + self.tonic + section.transpose
    degrees = theory.chord_degrees(self.roots[bar], self.style.sevenths)
    return [theory.pitch(d, home, self.mode) for d in degrees]
