"""Metres, keys, chords and scales; chords and scales as MIDI pitches.

Degrees count scale steps from the tonic: 0 is the tonic, 7 its octave.
"""

STEPS_PER_BEAT = {'3/4': 4, '4/4': 4, '6/8': 3}
BEATS_PER_BAR = {'3/4': 3, '4/4': 4, '6/8': 2}
MODES = {
  'major': (0, 2, 4, 5, 7, 9, 11),
  'minor': (0, 2, 3, 5, 7, 8, 10),
  'dorian': (0, 2, 3, 5, 7, 9, 10),
  'mixolydian': (0, 2, 4, 5, 7, 9, 10),
}
MAJOR_MODES = ('major', 'mixolydian')

# Chord loops as scale degrees, one chord a bar; styles name them by index.
LOOPS = (
  (1, 5, 6, 4),
  (1, 6, 4, 5),
  (6, 4, 1, 5),
  (1, 4, 5, 1),
  (1, 4, 1, 5),
  (2, 5, 1, 6),
  (1, 6, 2, 5),
  (1, 3, 4, 5),
  (4, 5, 3, 6),
  (1, 7, 6, 7),
  (1, 7, 4, 1),
  (1, 4, 7, 3),
  (1, 1, 4, 4),
  (1, 2, 1, 2),
  (1, 1, 7, 7),
  (6, 5, 4, 5),
  (1, 5, 6, 3, 4, 1, 4, 5),
  (1, 4, 2, 5, 1, 6, 2, 5),
  (6, 2, 5, 1, 4, 2, 5, 6),
  (1, 1, 1, 1, 4, 4, 1, 1, 5, 4, 1, 5),
  (1, 4, 1, 1, 4, 4, 1, 1, 5, 4, 1, 1),
  (1, 4, 6, 5),
  (4, 1, 5, 6),
  (1, 3, 6, 4),
)
NOTE_NAMES = (
  'C',
  'C sharp',
  'D',
  'E flat',
  'E',
  'F',
  'F sharp',
  'G',
  'A flat',
  'A',
  'B flat',
  'B',
)


def key_name(tonic: int, mode: str) -> str:
  """Names one of the 24 keys, e.g. `'E flat minor'`."""
  quality = 'major' if mode in MAJOR_MODES else 'minor'
  return f'{NOTE_NAMES[tonic % 12]} {quality}'


def pitch(degree: int, tonic: int, mode: str) -> int:
  """Semitones of a scale degree above pitch 0 of the octave of `tonic`."""
  octave, step = divmod(degree, 7)
  return tonic + 12 * octave + MODES[mode][step]


def chord_degrees(root: int, sevenths: bool) -> tuple[int, ...]:
  """Scale degrees of the chord on degree `root` (1 is the tonic)."""
  return tuple(
    root - 1 + step for step in ((0, 2, 4, 6) if sevenths else (0, 2, 4))
  )


def chord_name(root: int, tonic: int, mode: str, sevenths: bool) -> str:
  """Names a chord by what it consists of, e.g. `'D:min7'`."""
  tones = [pitch(d, tonic, mode) for d in chord_degrees(root, sevenths)]
  steps = tuple(tone - tones[0] for tone in tones)
  quality = {(4, 7): 'maj', (3, 7): 'min', (3, 6): 'dim', (4, 8): 'aug'}
  name = quality.get(steps[1:3], 'sus')
  if sevenths:
    name += {11: 'maj7', 10: '7', 9: '6'}.get(steps[3], '')
  return f'{NOTE_NAMES[tones[0] % 12]}:{name}'


def nearest(tones: list[int], target: float, low: int, high: int) -> int:
  """The pitch of a pitch class in `tones` nearest to `target` in range."""
  found = [p for p in range(low, high + 1) if p % 12 in {t % 12 for t in tones}]
  return min(found or [round(target)], key=lambda p: (abs(p - target), p))


def voicing(tones: list[int], center: int, size: int) -> list[int]:
  """A close chord of `size` voices around `center`, lowest first."""
  classes = {tone % 12 for tone in tones}
  near = sorted(
    (p for p in range(center - 12, center + 13) if p % 12 in classes),
    key=lambda p: (abs(p - center), p),
  )
  return sorted(near[:size])


def fold(value: int, low: int, high: int) -> int:
  """Moves a pitch by octaves into [low, high] (at least an octave wide)."""
  while value < low:
    value += 12
  while value > high:
    value -= 12
  return value
