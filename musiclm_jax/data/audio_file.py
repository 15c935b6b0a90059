"""One sound file that a user names -> mono waveform [S] at a rate."""

import os
from pathlib import Path

import numpy as np

from musiclm_jax.contracts.errors import UsageError


def read(path: str | os.PathLike, sample_rate: int) -> np.ndarray:
  """Reads a whole file: wav, flac, mp3, ogg.

  Args:
    path: Of the file.
    sample_rate: Of the result, in Hz.

  Returns:
    float32 [S] in [-1, 1].

  Raises:
    UsageError: If there is no such file, or it is no sound.
  """
  import soundfile
  import soxr

  if not Path(path).is_file():
    raise UsageError(f"there is no file '{path}'")
  try:
    samples, rate = soundfile.read(path, dtype='float32', always_2d=True)
  except soundfile.SoundFileError as error:
    raise UsageError(
      f"'{path}' cannot be read as sound ({error}): give a wav, flac, mp3 or "
      'ogg file'
    ) from error
  mono = np.nan_to_num(samples.mean(axis=1), nan=0.0, posinf=1.0, neginf=-1.0)
  return np.clip(soxr.resample(mono, rate, sample_rate), -1.0, 1.0)
