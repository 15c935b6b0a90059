"""Styles: groove, harmony, bass and form templates of composed music.

Grooves are strings of steps, four a beat in 3/4 and 4/4 and three a (dotted)
beat in 6/8: `X` accent, `x` hit, `o` soft hit, `.` none. Every groove marks
each beat, so that tempo can be heard and not only guessed by octave.
"""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Style:
  """Templates of one style.

  Attributes:
    name: What captions call it.
    synonyms: Countable nouns for a piece of it.
    metres: That it is played in.
    bpm: Lowest and highest tempo, beats a minute.
    modes: That it is played in.
    loops: Indices into `theory.LOOPS`.
    drums: Metre -> drum (GM key) -> steps of one bar; empty for none.
    bass: Name of a pattern in `accompaniment.BASS`.
    chords: Names of patterns in `accompaniment.CHORDS`, one is drawn.
    band: Roles in the order in which they join the lead.
    swing: Lowest and highest share of a beat's first half (0.5 straight).
    forms: Section labels of a piece, `forms.FORMS` by name.
    sevenths: Whether chords are seventh chords.
    uses: What such music is for.
  """

  name: str
  synonyms: tuple[str, ...]
  metres: tuple[str, ...]
  bpm: tuple[int, int]
  modes: tuple[str, ...]
  loops: tuple[int, ...]
  drums: Mapping[str, Mapping[int, str]]
  bass: str
  chords: tuple[str, ...]
  band: tuple[str, ...]
  swing: tuple[float, float] = (0.5, 0.5)
  forms: tuple[str, ...] = ('verse_chorus', 'song', 'aaba')
  sevenths: bool = False
  uses: tuple[str, ...] = ()


KICK, RIM, SNARE, CLAP, HAT, OPEN, TOM, RIDE = 36, 37, 38, 39, 42, 46, 45, 51
CRASH, TAMBOURINE, SHAKER, CONGA = 49, 54, 70, 63
_ALL = ('major', 'minor', 'dorian', 'mixolydian')
_ROCK_BAND = ('drums', 'bass', 'chords', 'pad', 'arpeggio', 'counter', 'shaker')
_SOFT_BAND = ('chords', 'bass', 'drums', 'pad', 'arpeggio', 'counter', 'shaker')
_BEAT_44 = 'x...x...x...x...'
_EIGHTHS_44 = 'x.o.x.o.x.o.x.o.'
_BACKBEAT = '....X.......X...'

STYLES = (
  Style(
    'waltz',
    ('waltz tune', 'dance in three'),
    ('3/4',),
    (60, 180),
    ('major', 'minor'),
    (3, 4, 1, 16, 6, 8),
    {'3/4': {KICK: 'X...........', HAT: '....x...x...', RIM: '....o...o...'}},
    'root_down',
    ('oompah',),
    _SOFT_BAND,
    forms=('aaba', 'abaca'),
    uses=('ballroom dancing', 'an elegant evening'),
  ),
  Style(
    'blues shuffle',
    ('blues number', 'shuffle'),
    ('4/4',),
    (60, 140),
    ('mixolydian', 'dorian'),
    (19, 20),
    {'4/4': {KICK: 'X.......x.......', SNARE: _BACKBEAT, RIDE: _EIGHTHS_44}},
    'shuffle',
    ('offbeat', 'half'),
    _ROCK_BAND,
    swing=(0.62, 0.68),
    forms=('chorus_blues', 'aaba'),
    sevenths=True,
    uses=('a smoky bar', 'a late night drive'),
  ),
  Style(
    'techno',
    ('electronic dance track', 'club techno track'),
    ('4/4',),
    (95, 180),
    ('minor', 'dorian'),
    (12, 13, 14, 9, 15, 11),
    {
      '4/4': {
        KICK: 'X...X...X...X...',
        CLAP: '....x.......x...',
        OPEN: '..x...x...x...x.',
      }
    },
    'octaves',
    ('stab', 'offbeat'),
    ('drums', 'bass', 'arpeggio', 'chords', 'pad', 'counter', 'shaker'),
    forms=('build', 'song'),
    uses=('a night club', 'a workout'),
  ),
  Style(
    'ambient',
    ('ambient soundscape', 'atmospheric piece'),
    ('4/4', '3/4', '6/8'),
    (60, 110),
    _ALL,
    (12, 13, 14, 9, 22, 23),
    {},
    'held',
    ('arpeggio', 'whole'),
    ('pad', 'arpeggio', 'bass', 'chords', 'shaker', 'counter'),
    forms=('abaca', 'song'),
    uses=('meditation', 'falling asleep'),
  ),
  Style(
    'bossa nova',
    ('bossa', 'latin lounge tune'),
    ('4/4',),
    (70, 160),
    ('major', 'minor', 'dorian'),
    (5, 6, 17, 18),
    {
      '4/4': {
        KICK: 'X..oX..oX..oX..o',
        RIM: 'x.....x.....x...',
        HAT: _EIGHTHS_44,
      }
    },
    'bossa',
    ('bossa',),
    _SOFT_BAND,
    forms=('aaba', 'song'),
    sevenths=True,
    uses=('a coffee shop', 'a beach bar'),
  ),
  Style(
    'march',
    ('military march', 'marching band tune'),
    ('4/4', '6/8'),
    (80, 150),
    ('major', 'minor', 'mixolydian'),
    (3, 4, 0, 7, 21),
    {
      '4/4': {KICK: 'X.......X.......', SNARE: 'x.ooX.ooxoooX.oo'},
      '6/8': {KICK: 'X..X..', SNARE: 'X.oX.o'},
    },
    'root_fifth',
    ('oompah',),
    _ROCK_BAND,
    forms=('aaba', 'abaca'),
    uses=('a parade', 'a ceremony'),
  ),
  Style(
    'ballad',
    ('slow ballad', 'love song'),
    ('4/4', '6/8'),
    (60, 100),
    ('major', 'minor'),
    (0, 1, 2, 16, 23, 7),
    {
      '4/4': {KICK: 'X.......x.......', RIM: _BACKBEAT, HAT: _BEAT_44},
      '6/8': {KICK: 'X.....', RIM: '...X..', HAT: 'xooxoo'},
    },
    'root',
    ('arpeggio', 'beats'),
    _SOFT_BAND,
    uses=('a wedding', 'a romantic scene'),
  ),
  Style(
    'folk',
    ('folk song', 'country tune'),
    ('4/4', '3/4', '6/8'),
    (70, 180),
    ('major', 'mixolydian', 'dorian'),
    (3, 4, 10, 21, 0),
    {
      '4/4': {KICK: 'X.......X.......', TAMBOURINE: '..o.x.o...o.x.o.'},
      '3/4': {KICK: 'X...........', TAMBOURINE: '....x.o.x.o.'},
      '6/8': {KICK: 'X..X..', TAMBOURINE: 'x.ox.o'},
    },
    'root_fifth',
    ('strum', 'oompah'),
    _SOFT_BAND,
    forms=('aaba', 'verse_chorus', 'abaca'),
    uses=('a campfire', 'a country fair'),
  ),
  Style(
    'rock',
    ('rock song', 'rock anthem'),
    ('4/4',),
    (80, 180),
    ('major', 'minor', 'mixolydian'),
    (0, 2, 10, 15, 21, 9),
    {'4/4': {KICK: 'X.......X.o.....', SNARE: _BACKBEAT, HAT: _EIGHTHS_44}},
    'eighths',
    ('beats', 'strum'),
    _ROCK_BAND,
    uses=('a road trip', 'a stadium'),
  ),
  Style(
    'chiptune',
    ('8-bit tune', 'video game theme'),
    ('4/4', '3/4'),
    (90, 180),
    _ALL,
    (0, 2, 8, 15, 9, 21),
    {
      '4/4': {
        KICK: 'X.......X.......',
        SNARE: _BACKBEAT,
        HAT: '..x...x...x...x.',
      },
      '3/4': {KICK: 'X...........', SNARE: '....x...x...', HAT: '..o...o...o.'},
    },
    'eighths',
    ('arpeggio', 'stab'),
    ('drums', 'bass', 'arpeggio', 'counter', 'chords', 'pad', 'shaker'),
    forms=('song', 'aaba', 'verse_chorus'),
    uses=('a platform game', 'an arcade'),
  ),
  Style(
    'funk',
    ('funky groove', 'funk jam'),
    ('4/4',),
    (75, 130),
    ('mixolydian', 'dorian', 'minor'),
    (12, 13, 14, 10, 5),
    {
      '4/4': {
        KICK: 'X.....o.x.o.....',
        SNARE: '....X..o....X..o',
        HAT: _EIGHTHS_44,
      }
    },
    'syncopated',
    ('stab', 'offbeat'),
    _ROCK_BAND,
    swing=(0.5, 0.56),
    sevenths=True,
    uses=('a dance floor', 'a city street scene'),
  ),
  Style(
    'film strings',
    ('cinematic score', 'movie soundtrack', 'film theme'),
    ('4/4', '3/4', '6/8'),
    (60, 140),
    _ALL,
    (9, 2, 15, 22, 23, 11),
    {
      '4/4': {TOM: 'X.......x.......', TAMBOURINE: '....o.......o...'},
      '3/4': {TOM: 'X...........', TAMBOURINE: '....o...o...'},
      '6/8': {TOM: 'X.....', TAMBOURINE: '...o..'},
    },
    'held',
    ('pulse', 'arpeggio'),
    ('chords', 'pad', 'bass', 'arpeggio', 'drums', 'counter', 'shaker'),
    forms=('build', 'abaca', 'song'),
    uses=('a film trailer', 'a nature documentary'),
  ),
  Style(
    'reggae',
    ('roots reggae tune', 'island groove'),
    ('4/4',),
    (65, 120),
    ('major', 'minor', 'dorian'),
    (12, 0, 4, 15, 13),
    {'4/4': {KICK: 'X...x...X...x...', RIM: _BACKBEAT, HAT: _EIGHTHS_44}},
    'syncopated',
    ('skank',),
    _ROCK_BAND,
    swing=(0.5, 0.58),
    uses=('a sunny afternoon', 'a beach party'),
  ),
  Style(
    'swing jazz',
    ('jazz tune', 'swing number', 'jazz standard'),
    ('4/4', '3/4'),
    (80, 180),
    ('major', 'minor', 'dorian'),
    (5, 6, 17, 18),
    {
      '4/4': {
        RIDE: 'x...x.o.x...x.o.',
        HAT: '....x.......x...',
        KICK: 'o...o...o...o...',
      },
      '3/4': {RIDE: 'x...x.o.x...', HAT: '....x...x...', KICK: 'o...........'},
    },
    'walking',
    ('offbeat', 'half'),
    ('bass', 'drums', 'chords', 'counter', 'pad', 'arpeggio', 'shaker'),
    swing=(0.6, 0.67),
    forms=('aaba',),
    sevenths=True,
    uses=('a jazz club', 'a dinner party'),
  ),
)
BY_NAME = {style.name: style for style in STYLES}
