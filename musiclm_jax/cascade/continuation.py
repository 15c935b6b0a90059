"""Continuation: music that begins with a recording.

recording [R] -> tokens -> the cascade goes on from them -> waveform [B, S],
whose first R samples are the recording itself.
"""

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE

_FADE_SECONDS = 0.01


def splice(waveform: np.ndarray, recording: np.ndarray) -> np.ndarray:
  """Puts a recording in the place of what a codec has made of it.

  The codec says the recording a little differently. The difference at its last
  sample fades out in what follows, so that nothing jumps there.

  Args:
    waveform: float [B, S], decoded from the recording's tokens and new ones.
    recording: float [R], R < S.

  Returns:
    float32 [B, S].
  """
  joint = len(recording)
  made = np.array(waveform, np.float32)
  after = made[:, joint : joint + round(_FADE_SECONDS * SAMPLE_RATE)]
  fade = (1 + np.cos(np.linspace(0, np.pi, after.shape[1]))) / 2
  step = recording[-1] - made[:, joint - 1]
  after += step[:, None] * fade
  made[:, joint:] = np.clip(made[:, joint:], -1.0, 1.0)
  made[:, :joint] = recording
  return made
