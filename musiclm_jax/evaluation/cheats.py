"""Two cheats that the gates must catch.

Retrieval plays the training clip that is nearest by MuLan text token: it fits
the prompt and is a copy. The constant tone of the prompted instrument has the
right timbre and is no music.
"""

from collections.abc import Mapping

import numpy as np

from musiclm_jax.evaluation import gates
from musiclm_jax.rendered_music import programs, soundfont

SAMPLE_RATE = 24_000
_TONE_PEAK = 0.3
_TICKS_PER_SECOND = 960  # 480 a quarter note at 120 bpm


def constant_tone(family: str, seconds: float) -> np.ndarray:
  """One held note of the family's first instrument, [S] at 24 kHz.

  Args:
    family: One of `programs.LEAD_FAMILIES`.
    seconds: Length.
  """
  import symusic

  program = programs.LEADS[family][0]
  pitch = (program.low + program.high) // 2
  score = symusic.Score(_TICKS_PER_SECOND // 2)
  track = symusic.Track(program=program.number)
  ticks = round(seconds * _TICKS_PER_SECOND)
  track.notes.append(symusic.Note(0, ticks, pitch, 100))
  score.tracks.append(track)
  player = symusic.Synthesizer(soundfont.path(), SAMPLE_RATE, 0)
  stereo = np.asarray(player.render(score, stereo=True), np.float32)
  mono = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
  rendered = stereo.reshape(-1, stereo.shape[-1]).mean(axis=0)[: len(mono)]
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
