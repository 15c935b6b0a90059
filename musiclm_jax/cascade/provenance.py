"""Sound files that say where they come from, in themselves and beside."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax import __version__
from musiclm_jax.contracts.atomic_file import atomic_open, write_text
from musiclm_jax.contracts.errors import UsageError


def versions() -> dict[str, str]:
  """Names what must be equal for a result to be equal."""
  packages = ('jax', 'jaxlib', 'flax', 'numpy')
  return {
    'musiclm_jax': __version__,
    'python': platform.python_version(),
    **{name: importlib.metadata.version(name) for name in packages},
  }


def write_wav(
  path: str | os.PathLike,
  waveform: np.ndarray,
  sample_rate: int,
  provenance: Mapping[str, Any],
) -> None:
  """Writes a WAV file, whole or not at all, and a JSON file beside it.

  Args:
    path: Of the WAV file.
    waveform: float [S] in [-1, 1], written as 16 bits.
    sample_rate: In Hz.
    provenance: Written as JSON into the file's comment (RIFF INFO, ICMT) and
      into `<path without .wav>.json`.
  """
  import soundfile

  path = Path(path)
  pcm = np.round(np.clip(waveform, -1.0, 1.0) * 32767).astype(np.int16)
  with (
    atomic_open(path, 'wb') as file,
    soundfile.SoundFile(
      file, 'w', sample_rate, 1, subtype='PCM_16', format='WAV'
    ) as sound,
  ):
    sound.comment = json.dumps(provenance)  # ASCII, as readers differ
    sound.write(pcm)
  write_text(path.with_suffix('.json'), json.dumps(provenance, indent=1) + '\n')


def read_provenance(path: str | os.PathLike) -> dict[str, Any]:
  """Reads what `write_wav` wrote into a WAV file.

  Raises:
    UsageError: If the file is no sound or carries nothing of ours.
  """
  import soundfile

  try:
    with soundfile.SoundFile(path) as sound:
      return json.loads(sound.comment)
  except (soundfile.SoundFileError, ValueError) as error:
    raise UsageError(
      f"'{path}' carries no provenance: it is no WAV file of ours ({error})"
    ) from error
