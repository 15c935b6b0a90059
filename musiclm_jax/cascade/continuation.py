"""Continuation: music that begins with a recording.

recording [R] -> tokens -> the cascade goes on from them -> waveform [B, S],
whose first R samples are the recording itself.
"""

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE

_FADE_SECONDS = 0.01


class Splice:
  """Puts a recording in the place of what a codec has made of it.

  The codec says the recording a little differently. The difference at its last
  sample fades out in what follows, so that nothing jumps there.
  """

  def __init__(self, recording: np.ndarray):
    """Takes the recording, float [R], at least a sample."""
    self._recording = np.asarray(recording, np.float32)
    self._start = 0
    self._step: np.ndarray | None = None

  def __call__(self, waveform: np.ndarray) -> np.ndarray:
    """Takes the samples that come next, or all.

    Args:
      waveform: float [B, n], decoded from the recording's tokens and new ones.

    Returns:
      float32 [B, n].
    """
    made = np.array(waveform, np.float32)
    after = self._start + np.arange(made.shape[1]) - len(self._recording)
    self._start += made.shape[1]
    known = after < 0
    made_last = made[:, after == -1]
    made[:, known] = self._recording[after[known]]
    if made_last.shape[1]:
      self._step = self._recording[-1] - made_last
    if self._step is not None:
      length = round(_FADE_SECONDS * SAMPLE_RATE)
      fading = (after >= 0) & (after < length)
      fade = (1 + np.cos(np.pi * after[fading] / (length - 1))) / 2
      made[:, fading] = np.clip(made[:, fading] + self._step * fade, -1.0, 1.0)
    return made
