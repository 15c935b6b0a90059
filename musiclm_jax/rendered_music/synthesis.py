"""Notes in seconds -> dry sound of one player, through symusic."""

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.rendered_music import soundfont


def render(
  notes: np.ndarray, program: int, is_drum: bool, num_samples: int
) -> np.ndarray:
  """Plays notes on one instrument.

  Args:
    notes: [N, 4]: onset and duration in seconds, pitch, velocity.
    program: General MIDI program, from 0; the kit for drums.
    is_drum: Whether pitches are drums.
    num_samples: Length of the result at 24 kHz.

  Returns:
    float32 [num_samples], mono, at any level; a pure function.
  """
  out = np.zeros(num_samples, np.float32)
  if not len(notes):
    return out
  from symusic import Note, Score, Synthesizer, Track

  # The synthesizer stops at the last note's end: one after what is wanted lets
  # it ring. A velocity of 0 is not mute.
  end = np.array([[num_samples / SAMPLE_RATE + 0.1, 0.1, 60, 0]])
  rows = np.concatenate([notes[np.argsort(notes[:, 0], kind='stable')], end])
  track = Track('', program, is_drum, ttype='second')
  track.notes = Note.from_numpy(
    rows[:, 0].astype(np.float32),
    rows[:, 1].astype(np.float32),
    rows[:, 2].astype(np.int8),
    rows[:, 3].astype(np.int8),
    ttype='second',
  )
  score = Score(480, ttype='second')
  score.tracks.append(track)
  # A synthesizer keeps notes of samples that programs share, and plays them
  # to the next program as the first one had them: each part gets its own.
  synthesizer = Synthesizer(soundfont.path(), SAMPLE_RATE, 0)
  sound = synthesizer.render(score, stereo=False)[0][:num_samples]
  # Some samples' filters overflow at extreme keys; such a part stays silent.
  if np.isfinite(sound).all():
    out[: len(sound)] = sound
  return out
