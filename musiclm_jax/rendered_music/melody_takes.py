"""Melodies that are played twice: (seed, split, index) -> two takes [2, S].

Both takes hold the notes of one melody from one place of its score on; player,
key, octave, tempo, band, room and level differ. So what they have in common is
the melody, and an embedding of it has nothing else to go by.
"""

import dataclasses
import math

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.rendered_music import (
  band,
  performer,
  programs,
  room,
  splits,
  styles,
  synthesis,
  theory,
  voice,
)
from musiclm_jax.rendered_music.score import Part, Section

SAMPLE_RATE = synthesis.SAMPLE_RATE
# From 80 beats a minute on, 4 s hold a phrase of some six notes.
MIN_BPM, MAX_BPM = 80.0, 180.0
_WRITER = programs.BY_NAME[
  'grand piano'
]  # in whose register melodies are written
_BAND = 4  # parts at most beside the lead
_ROOMS = ('booth', 'room', 'plate')  # a hall's response costs ten times as much
_BEFORE = 0.25  # seconds played before a take, so that rooms ring
_PHRASE_BARS = 4
LEADS = tuple(p.name for ps in programs.LEADS.values() for p in ps)

Player = programs.Program | voice.Voice


@dataclasses.dataclass(frozen=True)
class ComposedMelody:
  """A melody with its accompaniment, in beats.

  Attributes:
    bpm: Beats a minute as written.
    beats: Length.
    swing: Share of a beat that its first half takes.
    notes: [N, 4]: onset and duration in straight beats, pitch, velocity.
    parts: Of the band, without the lead.
  """

  bpm: float
  beats: int
  swing: float
  notes: np.ndarray
  parts: tuple[Part, ...]


@dataclasses.dataclass(frozen=True)
class Variety:
  """How much the takes of a melody differ.

  Attributes:
    leads: Programs that may play the melody, by name.
    voices: Names in `voice.VOICES` that may sing it.
    voice_share: How often a voice takes it, which is then alone.
    band_share: How often a lead has a band.
    tempo_change: Greatest change of the tempo as a share of it.
    same_key: Whether takes keep the key of the score, up to octaves.
  """

  leads: tuple[str, ...] = LEADS
  voices: tuple[str, ...] = tuple(voice.VOICES)
  voice_share: float = 0.25
  band_share: float = 0.5
  tempo_change: float = 0.2
  same_key: bool = False

  def __post_init__(self):
    """Refuses unknown names and shares out of range.

    Raises:
      UsageError: Naming them.
    """
    known = {*LEADS, *voice.VOICES}
    unknown = {*self.leads, *self.voices} - known
    if unknown or not self.leads:
      raise UsageError(
        f'expected leads out of {", ".join(sorted(known))}; got '
        f'{", ".join(sorted(unknown)) or "none"}'
      )
    if not 0.0 <= self.tempo_change < 0.5:
      raise UsageError(
        f'tempo_change={self.tempo_change}: must be from 0 to below 0.5'
      )


@dataclasses.dataclass(frozen=True)
class Take:
  """One performance of a stretch of a melody.

  Attributes:
    waveform: float32 [S] at 24 kHz.
    notes: [N, 4]: onset and duration in seconds from the take's start (those
      that began before it at most 0.25 s early), pitch, velocity.
    player: Name of the lead or voice.
    bpm: As played.
    transpose: Semitones from the score.
    parts: Roles of the band that plays along.
  """

  waveform: np.ndarray
  notes: np.ndarray
  player: str
  bpm: float
  transpose: int
  parts: tuple[str, ...]


def compose(
  seed: int, split: str, index: int, seconds: float
) -> ComposedMelody:
  """Composes one melody, long enough for takes of so many seconds.

  Unlike a corpus of pieces, which shares 48 motifs, each melody has a motif of
  its own, and so a split has none of another.

  Args:
    seed: Of the melodies.
    split: `'train'`, `'validation'` or `'test'`.
    index: Of the melody within its split.
    seconds: Of a take.
  """
  rng = np.random.default_rng([seed, splits.SPLITS.index(split), index, 2])
  bpm = math.exp(rng.uniform(math.log(MIN_BPM), math.log(MAX_BPM)))
  fitting = [s for s in styles.STYLES if s.bpm[0] <= bpm <= s.bpm[1]]
  style = fitting[rng.integers(len(fitting))]
  metre = str(rng.choice(style.metres))
  beats = theory.BEATS_PER_BAR[metre]
  # A take at up to 1.5 times the tempo, from anywhere in the first phrase.
  needed = seconds * 1.5 * bpm / 60.0 / beats + _PHRASE_BARS
  bars = _PHRASE_BARS * math.ceil(needed / _PHRASE_BARS)
  loop = int(rng.choice(style.loops))
  motif = motif_number(seed, split, index)
  section = Section('A', 0, bars, 0, 0, 0.85, loop, motif)
  writer = band.Band(
    style,
    metre,
    int(rng.integers(12)),
    str(rng.choice(style.modes)),
    (section,),
    'cut',
    rng,
  )
  parts, melody = writer.write(_WRITER, 1 + _BAND)
  return ComposedMelody(
    bpm=bpm,
    beats=bars * beats,
    swing=rng.uniform(*style.swing) if metre != '6/8' else 0.5,
    notes=np.array(sorted(melody), float),
    parts=tuple(parts[1:]),
  )


def motif_number(seed: int, split: str, index: int) -> int:
  """Numbers the motif of a melody; `splits.of_number` of it is the split."""
  places = [n for n in range(10) if splits.of_number(n) == split]
  block, place = divmod(index, len(places))
  return 10 * (block + (seed << 32)) + places[place]


def pair(
  composed: ComposedMelody,
  variety: Variety,
  seconds: float,
  rng: np.random.Generator,
) -> tuple[Take, Take]:
  """Plays the same stretch of a melody twice.

  Both takes begin at one place of the score and last equally long, so that the
  slower one ends earlier in it.
  """
  longest = seconds * (1.0 + variety.tempo_change) * composed.bpm / 60.0
  start = rng.uniform(0.0, composed.beats - longest)
  return tuple(
    perform(composed, variety, start, seconds, rng) for _ in range(2)
  )


def perform(
  composed: ComposedMelody,
  variety: Variety,
  start: float,
  seconds: float,
  rng: np.random.Generator,
) -> Take:
  """Plays and records `seconds` of a melody from beat `start` on."""
  bpm = composed.bpm * (
    1.0 + rng.uniform(-variety.tempo_change, variety.tempo_change)
  )
  num_samples = round((_BEFORE + seconds) * SAMPLE_RATE)
  player = _choose_player(variety, rng)
  sings = isinstance(player, voice.Voice)

  def played(notes, shift, spread):
    rows = _stretch(np.asarray(notes, float), composed, bpm, start, seconds)
    rows[:, 2] += shift
    rows[:, 0] += rng.normal(0.0, spread, len(rows)).clip(-0.05, 0.05)
    rows[:, 0] = rows[:, 0].clip(0.0)
    return rows

  melody = played(composed.notes, 0, 0.02 if sings else 0.006)
  shift = _transposition(melody, player, variety.same_key, rng)
  melody[:, 2] += shift
  if sings:
    mix = voice.sing(melody, player, num_samples, rng)
    parts = ()
  else:
    mix = synthesis.render(melody, player.number, False, num_samples)
    parts = _choose_band(composed, variety, rng)
  mix = mix / max(_rms(mix), 1e-6)
  key = (shift + 6) % 12 - 6  # a band keeps its register
  rest = np.zeros(num_samples, np.float32)
  for part in parts:
    is_drum = part.program is None
    rest += synthesis.render(
      played(part.notes, 0 if is_drum else key, 0.006),
      0 if is_drum else part.program.number,
      is_drum,
      num_samples,
    )
  below = 10 ** (-rng.uniform(2.0, 12.0) / 20)
  mix += below * rest / max(_rms(rest), 1e-6)
  melody[:, 0] -= _BEFORE
  return Take(
    waveform=_record(mix, rng)[-round(seconds * SAMPLE_RATE) :],
    notes=melody,
    player=player.name,
    bpm=bpm,
    transpose=shift,
    parts=tuple(part.role for part in parts),
  )


def _stretch(
  notes: np.ndarray,
  composed: ComposedMelody,
  bpm: float,
  start: float,
  seconds: float,
) -> np.ndarray:
  """Notes in seconds, 0 being `_BEFORE` before beat `start`; [N, 4].

  What rings into the stretch is begun at its beginning.
  """
  notes = notes.reshape(-1, 4)
  edges = performer.swung(
    np.stack([notes[:, 0], notes[:, 0] + notes[:, 1]]), composed.swing
  )
  origin = performer.swung(np.array(start), composed.swing)
  begin, end = (edges - origin) * 60.0 / bpm + _BEFORE
  sounding = (end > 0.05) & (begin < _BEFORE + seconds)
  begin = begin.clip(0.0)
  rows = np.stack([begin, end - begin, notes[:, 2], notes[:, 3]], axis=1)
  return rows[sounding]


def _choose_player(variety: Variety, rng: np.random.Generator) -> Player:
  if variety.voices and rng.random() < variety.voice_share:
    return voice.VOICES[variety.voices[rng.integers(len(variety.voices))]]
  return programs.BY_NAME[variety.leads[rng.integers(len(variety.leads))]]


def _choose_band(
  composed: ComposedMelody, variety: Variety, rng: np.random.Generator
) -> tuple[Part, ...]:
  """None or some of the band, each part as likely as not."""
  if not composed.parts or rng.random() >= variety.band_share:
    return ()
  kept = rng.random(len(composed.parts)) < 0.5
  kept[rng.integers(len(kept))] = True
  return tuple(p for p, k in zip(composed.parts, kept, strict=True) if k)


def _transposition(
  notes: np.ndarray, player: Player, same_key: bool, rng: np.random.Generator
) -> int:
  """Key and octave at once: any shift at which the notes suit the player."""
  step = 12 if same_key else 1
  pitches = notes[:, 2] if len(notes) else np.array([60.0])
  lowest, highest = pitches.min(), pitches.max()
  least, most = round(player.low - lowest), round(player.high - highest)
  first, last = -(-least // step), most // step
  if first > last:  # none: about the register's middle
    return round((least + most) // 2 / step) * step
  return step * int(rng.integers(first, last + 1))


def _record(dry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A take as recorded in a room, at some loudness, float32."""
  name = _ROOMS[rng.integers(len(_ROOMS))]
  bands = tuple(rng.uniform(-2.5, 2.5, size=len(room.BANDS_HZ)))
  wet = room.record(dry, name, rng.uniform(-7.0, 7.0), bands)
  return room.set_loudness(wet, rng.uniform(-30.0, -12.0))[0]


def _rms(x: np.ndarray) -> float:
  return float(np.sqrt(np.mean(np.square(x))))
