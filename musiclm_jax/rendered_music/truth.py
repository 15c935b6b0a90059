"""Ground truth: what was composed and recorded, and what is audible in a crop.

(Score, Performance) -> a JSON-able record; (record, start, end) -> the
attributes that are *audible in the crop*. Captions that name absent
instruments are the commonest label noise, so nothing is taken from the score
that is not audible in the crop.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from musiclm_jax.rendered_music import programs, theory
from musiclm_jax.rendered_music.performer import (
  GRID_SECONDS,
  SAMPLE_RATE,
  Performance,
)
from musiclm_jax.rendered_music.room import integrated_loudness
from musiclm_jax.rendered_music.score import Score

VERSION = '1.0.0'
AUDIBLE_DB = -20.0  # a part within 20 dB of the mix is audible
LEAD_AUDIBLE_DB = 0.0  # the lead's level against the rest
SILENT_DB = -55.0  # full scale; below nothing is named
_FRAME = 2048
SLOW_BPM, FAST_BPM = 84.0, 124.0
SPARSE, BUSY = 8.0, 14.0  # onsets a second of pitched parts and drums
DARK_HZ, BRIGHT_HZ = 1250.0, 1850.0  # spectral centroid
SOFT_LUFS, LOUD_LUFS = -25.0, -17.0

# (mode is major, tempo class) -> moods, the likeliest first
MOODS = {
  (True, 'slow'): ('peaceful', 'warm', 'tender'),
  (True, 'medium'): ('cheerful', 'relaxed', 'friendly'),
  (True, 'fast'): ('happy', 'joyful', 'playful'),
  (False, 'slow'): ('sad', 'melancholic', 'lonely'),
  (False, 'medium'): ('moody', 'mysterious', 'serious'),
  (False, 'fast'): ('tense', 'dramatic', 'restless'),
}


def describe(score: Score, played: Performance) -> dict[str, Any]:
  """The record of one piece, notes excepted; JSON-able, times in seconds."""
  bar = score.beats_per_bar
  beats = [round(float(t), 4) for t in played.beats]
  seconds = len(played.waveform) / SAMPLE_RATE
  bars = beats[::bar]
  lead = score.parts[0].program
  loudness = integrated_loudness(played.powers)
  return {
    'version': VERSION,
    'seed': score.seed,
    'split': score.split,
    'index': score.index,
    'seconds': round(seconds, 4),
    'style': score.style.name,
    'bpm': score.bpm,
    'metre': score.metre,
    'tonic': score.tonic,
    'key': score.key,
    'mode': score.mode,
    'form': score.form,
    'swing': round(score.swing, 3),
    'timing_seconds': round(score.timing, 4),
    'ending': score.ending,
    'lead_family': lead.family,
    'lead_program': lead.name,
    'sections': [
      {
        'label': s.label,
        'start': bars[s.start_bar],
        'end': bars[s.start_bar + s.bars],
        'turn': s.turn,
        'transpose': s.transpose,
        'key': theory.key_name(score.tonic + s.transpose, score.mode),
        'chord_loop': s.loop,
        'motif': s.motif,
      }
      for s in score.sections
    ],
    'bars': bars,
    'beats': beats,
    'chords': _chords(score),
    'parts': _parts(score, played),
    'melody': np.round(played.melody, 3).tolist(),
    'onsets': _onsets(played, seconds),
    'loudness': round(loudness, 2),
    'loudness_grid': _loudness_grid(played.powers),
    'brightness_grid': _brightness_grid(played.waveform),
    'lead_over_rest_db': [
      None if np.isnan(x) else round(float(x), 1)
      for x in played.lead_over_rest_db
    ],
    'effects': {
      'room': score.mix.room,
      'tilt_db': round(score.mix.tilt_db, 2),
      'bands_db': [round(x, 2) for x in score.mix.bands_db],
      'near_silence': score.mix.near_silence,
    },
  }


def notes_of(score: Score, played: Performance) -> list[dict[str, Any]]:
  """All notes as played: per part its role and rows of onset, duration,
  pitch and velocity."""
  return [
    {'role': part.role, 'notes': np.round(notes, 3).tolist()}
    for part, notes in zip(score.parts, played.notes, strict=True)
  ]


def _chords(score: Score) -> list[str]:
  """Name of the chord on each beat."""
  out = []
  for bar, root in enumerate(score.chord_roots):
    tonic = score.tonic + score.section_of(bar).transpose
    name = theory.chord_name(root, tonic, score.mode, score.style.sevenths)
    out += [name] * score.beats_per_bar
  return out


def _parts(score: Score, played: Performance) -> list[dict[str, Any]]:
  out = []
  for i, part in enumerate(score.parts):
    program = part.program
    drums = programs.DRUM_FAMILY if part.role == 'drums' else 'percussion'
    out.append(
      {
        'role': part.role,
        'program': program.number if program else None,
        'name': program.name if program else drums,
        'family': program.family if program else programs.DRUM_FAMILY,
        'gain_db': round(float(played.gains_db[i]), 1),
        'pedal': part.pedal,
        'levels': np.rint(played.levels[i]).astype(int).tolist(),
      }
    )
  return out


def _onsets(played: Performance, seconds: float) -> list[int]:
  """Note onsets in each 0.5 s; simultaneous notes of a part count once."""
  count = int(np.ceil(seconds / GRID_SECONDS))
  out = np.zeros(count, int)
  for notes in played.notes:
    times = np.unique(np.round(notes[:, 0], 2))
    cells = np.minimum((times / GRID_SECONDS).astype(int), count - 1)
    np.add.at(out, cells, 1)
  return out.tolist()


def _loudness_grid(powers: np.ndarray) -> list[float]:
  """Loudness of each 0.5 s in LUFS, ungated."""
  count = len(powers) // 5
  means = powers[: count * 5].reshape(count, 5).mean(axis=1)
  return np.round(-0.691 + 10 * np.log10(means + 1e-12), 1).tolist()


def _brightness_grid(waveform: np.ndarray) -> list[int]:
  """Spectral centroid of the power at the middle of each 0.5 s, in Hz."""
  step = int(GRID_SECONDS * SAMPLE_RATE)
  starts = np.arange(0, len(waveform) - _FRAME, step)
  frames = waveform[starts[:, None] + np.arange(_FRAME)] * np.hanning(_FRAME)
  power = np.abs(np.fft.rfft(frames, axis=1))
  hertz = np.fft.rfftfreq(_FRAME, 1 / SAMPLE_RATE)
  centroid = (power @ hertz) / (power.sum(axis=1) + 1e-9)
  return np.rint(centroid).astype(int).tolist()


def audible(
  truth: Mapping[str, Any], start: float, end: float
) -> dict[str, Any]:
  """What is audible in a crop; all values hashable.

  Args:
    truth: Record of `describe`.
    start: Of the crop in seconds.
    end: Of the crop in seconds.

  Returns:
    style, bpm, tempo_class, key, mode, metre, mood, brightness, loudness and
    density classes, lead_family and lead_program (None where the crop's lead
    is not audible), instruments (names, the lead's first), families, texture
    (`solo` or `ensemble`) and near_silence.
  """
  cells = _cells(start, end, truth['seconds'])
  levels = np.array([p['levels'] for p in truth['parts']], float)[:, cells]
  powers = (10 ** (levels / 10)).mean(axis=1)
  total = 10 * np.log10(powers.sum() + 1e-20)
  silent = bool(truth['effects']['near_silence'] or total < SILENT_DB)
  sounding = [
    part
    for part, power in zip(truth['parts'], powers, strict=True)
    if not silent and 10 * np.log10(power + 1e-20) > total + AUDIBLE_DB
  ]
  rest = 10 * np.log10(powers[1:].sum() + 1e-20)
  lead_level = 10 * np.log10(powers[0] + 1e-20)
  leads = not silent and lead_level > max(rest + LEAD_AUDIBLE_DB, SILENT_DB)
  if not leads:
    sounding = [part for part in sounding if part['role'] != 'lead']
  section = _section(truth, start, end)
  tempo = tempo_class(truth['bpm'])
  major = section['key'].endswith('major')
  return {
    'style': None if silent else truth['style'],
    'bpm': truth['bpm'],
    'tempo_class': tempo,
    'key': section['key'],
    'mode': truth['mode'],
    'metre': truth['metre'],
    'mood': 'silent' if silent else MOODS[major, tempo][0],
    'brightness': _mean_class(
      truth['brightness_grid'],
      cells,
      (DARK_HZ, BRIGHT_HZ),
      ('dark', 'neutral', 'bright'),
    ),
    'loudness': _mean_class(
      truth['loudness_grid'],
      cells,
      (SOFT_LUFS, LOUD_LUFS),
      ('soft', 'moderate', 'loud'),
    ),
    'density': _mean_class(
      np.divide(truth['onsets'], GRID_SECONDS),
      cells,
      (SPARSE, BUSY),
      ('sparse', 'moderate', 'busy'),
    ),
    'lead_family': truth['lead_family'] if leads else None,
    'lead_program': truth['lead_program'] if leads else None,
    'instruments': tuple(dict.fromkeys(part['name'] for part in sounding)),
    'families': tuple(dict.fromkeys(part['family'] for part in sounding)),
    'texture': 'solo' if len(sounding) == 1 else 'ensemble',
    'near_silence': silent,
  }


def _cells(start: float, end: float, seconds: float) -> slice:
  """Cells of the 0.5 s grids that a crop covers, at least one."""
  last = int(np.ceil(seconds / GRID_SECONDS))
  first = min(max(int(start / GRID_SECONDS + 0.5), 0), last - 1)
  return slice(first, min(max(int(end / GRID_SECONDS + 0.5), first + 1), last))


def _section(truth: Mapping[str, Any], start: float, end: float) -> dict:
  """The section that fills most of the crop."""
  return max(
    truth['sections'],
    key=lambda s: min(s['end'], end) - max(s['start'], start),
  )


def tempo_class(bpm: float) -> str:
  """`slow`, `medium` or `fast`, as captions say it."""
  return _class(bpm, SLOW_BPM, FAST_BPM, ('slow', 'medium', 'fast'))


def _class(value: float, low: float, high: float, names: tuple) -> str:
  return names[0] if value < low else names[2] if value > high else names[1]


def _mean_class(grid, cells: slice, edges: tuple, names: tuple) -> str:
  values = np.asarray(grid, float)[cells]
  if not len(values):
    values = np.asarray(grid[-1:], float)
  return _class(float(values.mean()), *edges, names)
