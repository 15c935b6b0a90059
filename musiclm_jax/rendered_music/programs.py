"""Instruments: General MIDI programs that are in tune, in families of sound.

A family is what a listener names first. Eight families may lead a piece;
`bass`, `pad` and `drums` only accompany. Programs whose samples stay out of
tune after `soundfont` (tubular bells, accordion, tango accordion, harmonics)
or have silent keys (alto saxophone) are left out.
"""

import dataclasses

LEAD_FAMILIES = (
  'piano',
  'mallets',
  'organ',
  'guitar',
  'strings',
  'brass',
  'reed/flute',
  'synth/choir',
)


@dataclasses.dataclass(frozen=True)
class Program:
  """One General MIDI program.

  Attributes:
    number: GM program, from 0.
    name: What captions call it.
    family: Of sound; one of `LEAD_FAMILIES`, `bass` or `pad`.
    low: Lowest MIDI pitch that suits a melody on it.
    high: Highest MIDI pitch that suits a melody on it.
    sustained: Whether a held note keeps its level.
    synonyms: Other words for it.
  """

  number: int
  name: str
  family: str
  low: int
  high: int
  sustained: bool
  synonyms: tuple[str, ...] = ()


def _family(family: str, *rows: tuple) -> list[Program]:
  return [
    Program(number, name, family, low, high, bool(held), tuple(synonyms))
    for number, name, low, high, held, *synonyms in rows
  ]


PROGRAMS = (
  *_family(
    'piano',
    (0, 'grand piano', 55, 84, 0, 'acoustic piano', 'concert piano'),
    (1, 'bright piano', 55, 84, 0, 'upright piano'),
    (2, 'electric grand piano', 55, 84, 0, 'stage piano'),
    (3, 'honky-tonk piano', 55, 84, 0, 'saloon piano', 'detuned piano'),
    (4, 'electric piano', 52, 81, 0, 'rhodes piano'),
  ),
  *_family(
    'mallets',
    (10, 'music box', 67, 91, 0),
    (11, 'vibraphone', 57, 84, 0, 'vibes'),
    (12, 'marimba', 55, 84, 0),
    (13, 'xylophone', 65, 93, 0),
    (108, 'kalimba', 57, 81, 0, 'thumb piano'),
  ),
  *_family(
    'organ',
    (16, 'drawbar organ', 53, 81, 1, 'hammond organ', 'electric organ'),
    (17, 'percussive organ', 53, 81, 1),
    (18, 'rock organ', 53, 81, 1, 'rotary organ'),
    (19, 'church organ', 53, 81, 1, 'pipe organ'),
    (20, 'reed organ', 53, 79, 1, 'harmonium'),
  ),
  *_family(
    'guitar',
    (24, 'nylon guitar', 50, 79, 0, 'classical guitar', 'acoustic guitar'),
    (25, 'steel guitar', 50, 79, 0, 'folk guitar', 'acoustic guitar'),
    (26, 'jazz guitar', 50, 79, 0),
    (27, 'clean electric guitar', 50, 79, 0, 'electric guitar'),
    (29, 'overdriven guitar', 50, 79, 1, 'electric guitar'),
    (30, 'distorted guitar', 50, 79, 1, 'distortion guitar'),
  ),
  *_family(
    'strings',
    (40, 'violin', 60, 86, 1, 'fiddle'),
    (41, 'viola', 53, 79, 1),
    (42, 'cello', 45, 69, 1, 'violoncello'),
    (48, 'string ensemble', 55, 84, 1, 'string orchestra', 'string section'),
    (44, 'tremolo strings', 55, 81, 1),
  ),
  *_family(
    'brass',
    (56, 'trumpet', 57, 81, 1),
    (57, 'trombone', 46, 70, 1),
    (59, 'muted trumpet', 57, 81, 1),
    (60, 'french horn', 48, 72, 1, 'horn'),
    (61, 'brass section', 53, 77, 1, 'brass ensemble', 'horn section'),
  ),
  *_family(
    'reed/flute',
    (66, 'tenor saxophone', 48, 72, 1, 'saxophone', 'sax'),
    (64, 'soprano saxophone', 57, 81, 1, 'saxophone', 'sax'),
    (68, 'oboe', 60, 84, 1),
    (71, 'clarinet', 52, 81, 1),
    (73, 'flute', 62, 89, 1),
    (74, 'recorder', 64, 88, 1),
  ),
  *_family(
    'synth/choir',
    (80, 'square lead', 57, 84, 1, 'square wave synth', 'chip synth'),
    (81, 'saw lead', 57, 84, 1, 'sawtooth synth', 'saw synth'),
    (52, 'choir', 53, 79, 1, 'choir singing ah', 'vocal choir'),
    (53, 'voices', 53, 79, 1, 'choir singing ooh', 'humming choir'),
    (87, 'fat saw lead', 50, 77, 1, 'analog synth lead'),
  ),
  *_family(
    'bass',
    (32, 'double bass', 28, 50, 0, 'upright bass', 'acoustic bass'),
    (33, 'electric bass', 28, 50, 0, 'bass guitar', 'fingered bass'),
    (34, 'picked bass', 28, 50, 0, 'bass guitar'),
    (35, 'fretless bass', 28, 50, 1),
    (38, 'synth bass', 28, 50, 1, 'synthesizer bass'),
    (39, 'analog bass', 28, 50, 1, 'synth bass'),
  ),
  *_family(
    'pad',
    (88, 'bell pad', 50, 79, 1, 'new age pad'),
    (89, 'warm pad', 50, 79, 1, 'soft synth pad'),
    (95, 'sweep pad', 50, 79, 1, 'synth pad'),
  ),
)
BY_NUMBER = {program.number: program for program in PROGRAMS}
BY_NAME = {program.name: program for program in PROGRAMS}
# Rhodes and horn accompany only: by ear they pass for mallets and choir.
_NEVER_LEAD = (4, 60)
LEADS = {
  family: tuple(
    p for p in PROGRAMS if p.family == family and p.number not in _NEVER_LEAD
  )
  for family in LEAD_FAMILIES
}
# Words for what leads that hold the family's own name; families of two sounds
# are named by the one that sounds.
FAMILY_WORDS = {
  'piano': ('piano', 'piano keys'),
  'mallets': ('mallets', 'mallet percussion'),
  'organ': ('organ', 'organ'),
  'guitar': ('guitar', 'guitar'),
  'strings': ('strings', 'bowed strings'),
  'brass': ('brass', 'brass instruments'),
  'reed': ('reed instrument', 'woodwind reed'),
  'flute': ('flute', 'woodwind flute'),
  'synth': ('synth', 'synth lead'),
  'choir': ('choir', 'vocal choir'),
}
_FLUTES, _CHOIRS = (73, 74), (52, 53)


def family_words(program: Program) -> tuple[str, ...]:
  """Words for the family of a lead, such as are true of this program."""
  group = program.family
  if group == 'reed/flute':
    group = 'flute' if program.number in _FLUTES else 'reed'
  elif group == 'synth/choir':
    group = 'choir' if program.number in _CHOIRS else 'synth'
  return FAMILY_WORDS[group]


DRUM_FAMILY = 'drums'
DRUM_NAMES = {
  'drums': ('drums', 'drum kit', 'drum set'),
  'percussion': ('percussion', 'hand percussion'),
}
