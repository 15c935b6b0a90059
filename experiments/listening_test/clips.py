"""Clips of several systems: paired by name, cut, levelled, low-passed.

NAME=FOLDER of each system -> names that all have -> waveforms [S] of a name
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import signal

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.data import audio_file, captions_file
from musiclm_jax.data.folder_listing import list_files, some, why_none
from musiclm_jax.dsp.level import rms_dbfs
from musiclm_jax.evaluation.clips import SILENT_DBFS, stem

_UNEQUAL_SECONDS = 0.1  # from which clips of a name are said to differ
_FADE_SECONDS = 0.02  # where a clip is cut, so that it ends without a click


@dataclasses.dataclass(frozen=True)
class Clip:
  """What raters hear.

  Attributes:
    name: Common to the clips of all systems.
    waveform: float32 [S] in [-1, 1].
  """

  name: str
  waveform: np.ndarray


def paired(systems: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
  """Finds the file of each name and system.

  Returns:
    Name without suffix -> system -> file; names are sorted.

  Raises:
    UsageError: If a folder has no sound, two files of one name, or lacks a name
      that another one has; all that is missing is named.
  """
  found: dict[str, dict[str, Path]] = {}
  for system, folder in systems.items():
    listing = list_files(folder, audio_file.SUFFIXES)
    if listing.unusable or listing.closed:
      raise UsageError(
        f"'{printable(folder)}' cannot be read whole: "
        + some([*listing.unusable, *listing.closed])
      )
    if not listing.files:
      raise UsageError(
        f"'{printable(folder)}' of '{printable(system)}' has no sound: "
        f'{why_none(listing)}'
      )
    for file, *_ in listing.files:
      name = stem(file)
      of_name = found.setdefault(name, {})
      if system in of_name:
        raise UsageError(
          f"'{printable(folder)}' has two files of the name "
          f"'{printable(name)}': keep one"
        )
      of_name[system] = folder / file
  missing = [
    f"'{printable(name)}' of {', '.join(map(printable, sorted(lack)))}"
    for name, files in sorted(found.items())
    if (lack := systems.keys() - files.keys())
  ]
  if missing:
    raise UsageError(
      f'{len(missing)} of {len(found)} names are not in all folders, missing '
      f'are {first_few(missing)}: add or remove these clips'
    )
  return dict(sorted(found.items()))


def captions(
  systems: Mapping[str, Path],
  files: Mapping[str, Mapping[str, Path]],
  given: Path | None,
) -> dict[str, str]:
  """Reads the caption of each name; none where there is no captions file.

  Args:
    systems: Name -> folder.
    files: Of `paired`.
    given: Captions file, whose rows name files of the first folder; None: the
      captions.csv of the first folder that has one.

  Raises:
    UsageError: If some names have a caption and others do not.
  """
  beside = [(s, f / captions_file.NAME) for s, f in systems.items()]
  beside = [(s, path) for s, path in beside if os.path.lexists(path)]
  if given is not None:
    system, path = next(iter(systems)), given
    if not given.is_file():
      raise UsageError(f"there is no captions file '{printable(given)}'")
  elif beside:
    system, path = beside[0]
  else:
    return {}
  relative = {
    name: of_name[system].relative_to(systems[system]).as_posix()
    for name, of_name in files.items()
  }
  read = captions_file.read(path, tuple(relative.values())).of
  found = {
    name: read[file][0] for name, file in relative.items() if file in read
  }
  lacking = [f"'{printable(name)}'" for name in files if name not in found]
  if lacking:
    raise UsageError(
      f'{printable(path)}: {len(lacking)} of {len(files)} clips have no '
      f'caption: {first_few(lacking)}: write one for each'
    )
  return found


class Reader:
  """Reads the clips of a name, cut to one length, at one rate, mono.

  Attributes:
    files: Name -> system -> file.
    sample_rate: Of the waveforms, in Hz.
  """

  def __init__(
    self,
    files: Mapping[str, Mapping[str, Path]],
    sample_rate: int,
    seconds: float | None,
    level: str,
  ):
    """See `build.build` for `seconds` and `level`."""
    self.files = files
    self.sample_rate = sample_rate
    self._seconds = seconds
    self._level = level
    self._levels: dict[str, list[float]] = {}
    self._silent: list[str] = []
    self._unequal: list[str] = []

  def read(self, name: str) -> dict[str, Clip]:
    """Reads a name's clip of each system.

    Raises:
      UsageError: Naming a file that is no sound.
    """
    found = {
      system: self._cut(audio_file.read(path, self.sample_rate))
      for system, path in self.files[name].items()
    }
    levels = {system: float(rms_dbfs(x)) for system, x in found.items()}
    for system, level in levels.items():
      self._levels.setdefault(system, []).append(level)
      if level < SILENT_DBFS:
        self._silent.append(f"'{name}' of {system}")
    lengths = [len(x) for x in found.values()]
    if max(lengths) - min(lengths) > _UNEQUAL_SECONDS * self.sample_rate:
      self._unequal.append(f"'{name}'")
    if self._level == 'rms':
      # Downwards only, so that nothing clips; silence sets no level.
      heard = [level for level in levels.values() if level >= SILENT_DBFS]
      softest = min(heard, default=0.0)
      found = {
        system: x * np.float32(10 ** (min(0.0, softest - levels[system]) / 20))
        for system, x in found.items()
      }
    return {system: Clip(name, x) for system, x in found.items()}

  def _cut(self, waveform: np.ndarray) -> np.ndarray:
    if self._seconds is None:
      return waveform
    count = round(self._seconds * self.sample_rate)
    if len(waveform) <= count:
      return waveform
    cut = waveform[:count].copy()
    fade = min(round(_FADE_SECONDS * self.sample_rate), count)
    cut[count - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return cut

  def remarks(self) -> list[str]:
    """Lines on what could sway or betray, once all has been read."""
    policy = {
      'as_is': 'levels are left as they are',
      'rms': 'clips are lowered to the softest of each name',
    }[self._level]
    means = ', '.join(
      f'{system} {np.mean(levels):.1f}'
      for system, levels in self._levels.items()
    )
    found = [f'{policy}; mean level of the files in dBFS: {means}']
    if self._silent:
      found.append(f'silent: {first_few(self._silent)}')
    if self._unequal:
      found.append(
        'clips of unequal length, by which systems may be told apart: '
        f'{first_few(self._unequal)}'
      )
    return found


def low_passed(clip: Clip, hz: float, sample_rate: int) -> Clip:
  """The anchor of a clip, as ITU-R BS.1534-3 §5.1 describes the one at 3.5 kHz.

  Flat within 0.1 dB up to `hz`, and 25 dB down at 8/7 of it and 50 dB at 9/7.
  Of zero phase, so that it runs beside the reference.

  Args:
    clip: Whose waveform is filtered.
    hz: Band limit.
    sample_rate: Of the waveform, in Hz.

  Raises:
    UsageError: If the rate cannot carry the band.
  """
  edge = hz * 8 / 7
  if hz <= 0 or edge >= sample_rate / 2:
    raise UsageError(
      f'an anchor of {hz:g} Hz cannot be made at {sample_rate} Hz: give '
      'a lower band or a higher --sample_rate'
    )
  half = sample_rate / 2
  taps, beta = signal.kaiserord(70.0, (edge - hz) / half)
  taps |= 1  # odd: a whole number of samples of delay
  weights = signal.firwin(
    taps, (hz + edge) / 2, window=('kaiser', beta), fs=sample_rate
  )
  filtered = signal.fftconvolve(clip.waveform, weights, mode='same')
  limited = np.clip(filtered, -1.0, 1.0).astype(np.float32)
  return Clip(clip.name, limited)
