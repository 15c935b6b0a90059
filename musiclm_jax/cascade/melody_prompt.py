"""A melody that music shall play: a hummed waveform [S] -> tokens of any time.

Music that is longer than the melody hears it again from its beginning, as if
it had been hummed on and on: a crop without a whole melody is nothing that
the language models have met.
"""

import os

import numpy as np

from musiclm_jax.cascade.tokenizer import SAMPLE_RATE, Tokenizer
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenSpec
from musiclm_jax.data import audio_file
from musiclm_jax.dsp.level import rms_dbfs

MIN_DBFS = -60.0


def read(path: str | os.PathLike, spec: TokenSpec) -> np.ndarray:
  """Reads a melody.

  Args:
    path: Of humming, whistling, any music.
    spec: Of melody tokens.

  Returns:
    float32 [S] at 24 kHz.

  Raises:
    UsageError: If it is no sound, silent, or shorter than one window.
  """
  if os.path.isdir(path):
    raise UsageError(f"the melody '{path}' is a folder: name one sound file")
  waveform = audio_file.read(path, SAMPLE_RATE)
  seconds = len(waveform) / SAMPLE_RATE
  if not spec.num_frames(seconds):
    raise UsageError(
      f"the melody '{path}' has {seconds:.2f} s, it needs at least "
      f'{spec.window_seconds:g}: give a longer one'
    )
  if rms_dbfs(waveform) < MIN_DBFS:
    raise UsageError(
      f"the melody '{path}' is silent (below {MIN_DBFS:g} dBFS): give one that "
      'can be heard'
    )
  return waveform


class MelodyPrompt:
  """Tells the melody tokens of a stretch of the music that is being made."""

  def __init__(
    self, tokenizer: Tokenizer, spec: TokenSpec, waveform: np.ndarray
  ):
    """Takes the melody.

    Args:
      tokenizer: With the networks of the melody.
      spec: Of its tokens.
      waveform: float32 [S] at 24 kHz; see `read`.
    """
    self._tokenizer = tokenizer
    self._waveform = waveform
    self._window = round(spec.window_seconds * SAMPLE_RATE)
    self._hop = round(SAMPLE_RATE / spec.frame_rate)

  @property
  def seconds(self) -> float:
    """Its length, after which it begins again."""
    return len(self._waveform) / SAMPLE_RATE

  def __call__(self, start_seconds: float, num_windows: int) -> np.ndarray:
    """Encodes the windows of a stretch, int32 [num_windows, Q].

    Args:
      start_seconds: When the stretch begins in the music.
      num_windows: How many windows it has.
    """
    samples = (num_windows - 1) * self._hop + self._window
    places = round(start_seconds * SAMPLE_RATE) + np.arange(samples)
    heard = self._waveform[places % len(self._waveform)]
    return self._tokenizer.encode_melody(heard[None])[0]
