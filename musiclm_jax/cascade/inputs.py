"""What a user gives, checked: texts, lengths, seeds, waveforms and files."""

import math
import numbers
import os
import unicodedata
from typing import Any

import numpy as np

from musiclm_jax.contracts import bounds, paths
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.level import rms_dbfs

MAX_SECONDS = 3600.0
MIN_DBFS = -60.0  # of a clip that is given
_MAX_LEVEL = 4.0  # float samples of a louder one are probably scaled integers
_SILENT = ('Cc', 'Cf', 'Zl', 'Zp', 'Zs')  # letters that say nothing
Audio = str | os.PathLike | np.ndarray


def read_text(
  text: str | None,
  example: str = 'say what to play, such as "slow piano"',
  flag: str = '--text',
) -> str:
  """Checks that a text says something, in Unicode.

  Where the locale is not UTF-8, Python keeps the letters it does not know as
  surrogates; they are taken as the UTF-8 they mostly are.

  Args:
    text: A prompt, perhaps of a flag.
    example: What it is for, and a sentence.
    flag: That it may be of.

  Raises:
    UsageError: If it is empty, no string, or holds bytes that are no text.
  """
  text = '' if text is None else text
  if not isinstance(text, str):
    raise UsageError(f'{flag}={text!r} is no text: {example}')
  if any(unicodedata.category(letter) == 'Cs' for letter in text):
    try:
      text = os.fsencode(text).decode()
    except UnicodeError as error:
      raise UsageError(
        f"{flag}='{text}' holds bytes that are no UTF-8: type it again, in a "
        'terminal that uses UTF-8'
      ) from error
  if all(unicodedata.category(letter) in _SILENT for letter in text):
    raise UsageError(f'{flag} is empty: {example}')
  return text


def read_texts(texts: Any) -> list[str]:
  """Checks a text or a list of at least one.

  Raises:
    UsageError: If there is none, or one is refused by `read_text`.
  """
  return [read_text(text) for text in as_list(texts, str)]


def as_list(texts: Any, one: Any) -> list:
  """Makes a list of one text, or of what stands for one, or of several.

  Args:
    texts: One, None in its place, or several.
    one: Type of one.

  Raises:
    UsageError: If there is none.
  """
  if isinstance(texts, one) or texts is None:
    return [texts]
  if not isinstance(texts, list | tuple | np.ndarray) or not len(texts):
    raise UsageError(f'expected a text or a list of texts, got {texts!r}')
  return list(texts)


def read_lines(file: str | os.PathLike) -> list[str]:
  """Reads a file of texts, one a line; empty lines say nothing.

  Raises:
    UsageError: If it cannot be read or holds none.
  """
  path = paths.local(file)
  try:
    lines = path.read_text(encoding='utf-8-sig').splitlines()
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or 'it is no UTF-8'
    raise UsageError(f"--prompts='{path}' cannot be read ({reason})") from error
  texts = [read_text(line) for line in lines if line.strip()]
  if not texts:
    raise UsageError(f"--prompts='{path}' is empty: give a text a line")
  return texts


def check_seconds(seconds: float, sample_rate: float = SAMPLE_RATE) -> int:
  """Returns the length of a piece in samples.

  Raises:
    UsageError: If it is not in (0, 3600], less than one sample or no number.
  """
  number = isinstance(seconds, numbers.Real) and math.isfinite(seconds)
  samples = round(seconds * sample_rate) if number else 0
  if not (samples > 0 and seconds <= MAX_SECONDS):
    raise UsageError(
      f'--seconds={seconds}: give a number of seconds above 0 and up to '
      f'{MAX_SECONDS:g}'
    )
  return samples


def check_seed(seed: int) -> None:
  """Refuses a seed that is no whole number in [0, 2**32).

  Raises:
    UsageError: Saying what to choose.
  """
  check_whole('--seed', seed, bounds.SEED)


def check_whole(flag: str, value: int, limits: tuple[int, int]) -> None:
  """Refuses what is no whole number within limits.

  Raises:
    UsageError: Naming the flag.
  """
  if not isinstance(value, numbers.Integral) or isinstance(value, bool):
    raise UsageError(f'{flag}={value!r}: choose a whole number')
  bounds.check(flag, value, limits)


def read_audio(audio: Audio) -> np.ndarray:
  """Reads a sound file, or checks a waveform.

  Args:
    audio: Path of a file of any rate; or float [S] or [B, S] at 24 kHz in
      [-1, 1].

  Returns:
    float32 [S] of a file, else as given.

  Raises:
    UsageError: If the file is no sound, or the array no waveform.
  """
  if isinstance(audio, str | os.PathLike):
    from musiclm_jax.data import audio_file

    audio = paths.local(audio)
    if audio.is_dir():
      raise UsageError(f"'{audio}' is a folder: name one sound file")
    return audio_file.read(audio, SAMPLE_RATE)
  try:
    waveform = np.asarray(audio)
  except ValueError as error:  # a list of unequal rows
    raise UsageError(
      'got rows of unequal length: give one at a time'
    ) from error
  if waveform.dtype.kind != 'f':
    raise UsageError(
      'expected the path of a sound file, or float samples in [-1, 1], got '
      f'{waveform.dtype}: divide integer samples by their full scale'
    )
  if waveform.ndim not in (1, 2) or not waveform.size:
    raise UsageError(
      f'a waveform must be [S] or [B, S], got shape {waveform.shape}'
    )
  if waveform.ndim == 2 and len(waveform) > waveform.shape[1]:
    raise UsageError(
      f'a waveform must be [S] or [B, S], got shape {waveform.shape}: average '
      'the channels of each sample'
    )
  if not np.isfinite(waveform).all():
    raise UsageError('the waveform has samples that are not finite')
  if np.abs(waveform).max() > _MAX_LEVEL:
    raise UsageError(
      f'a waveform must lie in [-1, 1], got {np.abs(waveform).max():g}: divide '
      'it by its full scale'
    )
  return waveform.astype(np.float32)


def read_melody(audio: Audio, window_seconds: float) -> np.ndarray:
  """Reads a melody: humming, whistling, any music.

  Args:
    audio: Path of a file, or float [S] at 24 kHz.
    window_seconds: The shortest that can be used.

  Returns:
    float32 [S] at 24 kHz.

  Raises:
    UsageError: If it is no sound, silent, or shorter than one window.
  """
  return read_clip(audio, 'the melody', window_seconds)


def read_clip(
  audio: Audio, what: str, least_seconds: float = 0.04
) -> np.ndarray:
  """Reads one audible clip.

  Args:
    audio: Path of a file, or float [S] at 24 kHz.
    what: What it is, for messages.
    least_seconds: The shortest that can be used.

  Returns:
    float32 [S] at 24 kHz.

  Raises:
    UsageError: If it is no sound, silent or shorter.
  """
  waveform = read_audio(audio)
  name = what
  if isinstance(audio, str | os.PathLike):
    name += f" '{os.fspath(audio)}'"
  if waveform.ndim != 1:
    raise UsageError(f'{name} must be [S], got shape {waveform.shape}')
  seconds = len(waveform) / SAMPLE_RATE
  if seconds < least_seconds - 1e-6:
    raise UsageError(
      f'{name} has {seconds:.2f} s, it needs at least {least_seconds:g}: '
      'give a longer one'
    )
  if rms_dbfs(waveform) < MIN_DBFS:
    raise UsageError(
      f'{name} is silent (below {MIN_DBFS:g} dBFS): give one that is audible'
    )
  return waveform
