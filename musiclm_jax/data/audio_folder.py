"""A folder of sound files as a source of music, resampled on reading.

wav, flac, mp3, ogg, … at any depth -> mono float32 [n] at the rate asked for.
`captions.csv` (path,caption; several rows a file allowed) beside the files is
optional.
"""

import functools
from collections.abc import Mapping

import numpy as np

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.data import audio_file, captions_file, parser_process
from musiclm_jax.data.file_folder import FileFolder, FileKind

KIND = FileKind(
  'audio',
  audio_file.SUFFIXES,
  audio_file.probe,
  unread=(  # sound of which libsndfile knows nothing
    *('.3gp', '.aac', '.ac3', '.alac', '.amr', '.ape', '.dff', '.dsf', '.dts'),
    *('.eac3', '.m4a', '.m4b', '.m4p', '.m4r', '.mka', '.mkv', '.mov', '.mp4'),
    *('.mpc', '.mpga', '.ra', '.shn', '.spx', '.tak', '.tta', '.weba', '.webm'),
    *('.wma', '.wv'),
  ),
)


class AudioFolder(FileFolder):
  """Reads one split of a folder of sound files; see `sources.Source`."""

  kind = KIND
  stretch_seconds = 60.0

  def __init__(self, folder: str, split: str, sample_rate: int = SAMPLE_RATE):
    """Scans the folder; see `FileFolder`."""
    super().__init__(folder, split, sample_rate)

  def decode(
    self, i: int, start: int, num_samples: int
  ) -> tuple[np.ndarray, str | None]:
    """Decodes [start, start + num_samples) without what is long before.

    Parts of a file are, up to rounding, parts of the whole.

    Returns:
      float32 [num_samples] in [-1, 1], zeros past the end and where the file
      cannot be decoded; and the reason, if so.
    """
    sound = self._files[i]
    return self._parse(
      i,
      audio_file.read_stretch,
      sound,
      start,
      num_samples,
      self.sample_rate,
      num_samples=num_samples,
      seconds=parser_process.cpu_seconds(sound.size),
      doing=f'decoded at {start / self.sample_rate:.1f} s',
    )

  def written_captions(self, i: int) -> tuple[str, ...]:
    """Lists the file's captions, in the order of captions.csv.

    Raises:
      UsageError: If captions.csv cannot be read as it was meant.
    """
    return self._captions.get(self._names[i], ())

  @functools.cached_property
  def _captions(self) -> Mapping[str, tuple[str, ...]]:
    """Captions by file; read when first asked for, as few stages need them."""
    return captions_file.of_folder(self._folder, self._all_names)
