"""Two cheats that the gates must catch (recipe §8).

Retrieval plays the training clip that is nearest by MuLan text token: it fits
the prompt and is a copy. The constant tone of the prompted instrument has the
right timbre and is no music.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.evaluation import gates

SAMPLE_RATE = 24_000
_TONE_PITCH = 57  # A3: every family plays it
_TONE_PEAK = 0.3
# One General MIDI program (from 0) of each lead family.
_PROGRAMS = {
  'piano': 0,
  'mallets': 11,
  'organ': 19,
  'guitar': 24,
  'strings': 48,
  'brass': 61,
  'reed': 73,
  'synth': 81,
}


def constant_tone(family: str, seconds: float) -> np.ndarray:
  """One held note of an instrument of the family, [S] at 24 kHz.

  Args:
    family: Lead family; its first word counts (`reed/flute` is `reed`).
    seconds: Length.
  """
  import pretty_midi
  import symusic

  key = next((key for key in _PROGRAMS if family.startswith(key)), 'synth')
  score = symusic.Score(480)  # ticks per quarter note; 120 bpm by default
  track = symusic.Track(program=_PROGRAMS[key])
  ticks = round(seconds * 960)
  track.notes.append(symusic.Note(0, ticks, _TONE_PITCH, 100))
  score.tracks.append(track)
  font = Path(pretty_midi.__file__).parent / 'TimGM6mb.sf2'
  player = symusic.Synthesizer(str(font), SAMPLE_RATE, 0)
  stereo = np.asarray(player.render(score, stereo=True), np.float32)
  count = round(seconds * SAMPLE_RATE)
  mono = np.zeros(count, np.float32)
  rendered = stereo.reshape(-1, stereo.shape[-1]).mean(axis=0)[:count]
  mono[: len(rendered)] = rendered
  return mono * (_TONE_PEAK / max(float(np.abs(mono).max()), 1e-6))


def nearest_by_tokens(
  text_codes: np.ndarray, training_codes: np.ndarray
) -> np.ndarray:
  """For each prompt, the training crop with most equal codes, first levels.

  Args:
    text_codes: MuLan tokens of the prompts [P, L].
    training_codes: MuLan tokens of the training crops [N, L].

  Returns:
    Index of the nearest crop per prompt [P]. An equal code at a level counts
    more than all deeper ones together.
  """
  weights = 0.5 ** np.arange(text_codes.shape[1])
  equal = text_codes[:, None, :] == training_codes[None, :, :]
  return (equal * weights).sum(axis=2).argmax(axis=1)


def gate(retrieval_copy: gates.Gate, tone_music: gates.Gate) -> gates.Gate:
  """`cheats_fail`: the gates catch what only looks good.

  Args:
    retrieval_copy: `cascade_copy` of the retrieved training clips.
    tone_music: `cascade_music` of the constant tones.
  """
  caught: Mapping[str, bool] = {
    'retrieval fails cascade_copy': not retrieval_copy.passed,
    'a constant tone fails cascade_music': not tone_music.passed,
  }
  share = sum(caught.values()) / len(caught)
  return gates.make('cheats_fail', share, 1.0, caught)


def families() -> Sequence[str]:
  """Lead families that have a tone."""
  return tuple(_PROGRAMS)
