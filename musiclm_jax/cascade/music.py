"""What was generated, and how it is written."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.cascade import provenance
from musiclm_jax.contracts import paths

# What metadata say of each piece -> its name in the file of one.
_OF_EACH = {
  'prompts': 'prompt',
  'seeds': 'seed',
  'text_scores': 'text_score',
  'unknown_words': 'unknown_words',
}


@dataclasses.dataclass(frozen=True)
class Music:
  """What was generated, of one text or of a list of B.

  Attributes:
    waveform: float32 [S] or [B, S] in [-1, 1], S exactly as asked.
    tokens: Stream -> int32 array: `mulan` [..., 12] of the text, `semantic`
      [..., Ts] and `acoustic` [..., Ta, Q], as long as the waveform, rounded
      up; none `semantic` where the coarse stage reads none.
    metadata: What the music depends on: `prompts`, `seed`, `seconds`,
      `settings`, `bundle_sha256`, `versions`, and what else was asked for;
      `unknown_words` of each prompt where `MusicLM.unknown_words` tells them;
      of several takes `seeds` and `text_scores` of those that were chosen.
    sample_rate: In Hz.
  """

  waveform: np.ndarray
  tokens: Mapping[str, np.ndarray]
  metadata: Mapping[str, Any]
  sample_rate: int

  def save(
    self, path: str | os.PathLike, overwrite: bool = False
  ) -> list[Path]:
    """Writes sound files with their provenance, and a JSON beside each.

    Args:
      path: Of the file, .wav or .flac; a list of texts becomes `x_0.wav`,
        `x_1.wav`, …
      overwrite: Whether files that others wrote are replaced.

    Returns:
      The sound files.

    Raises:
      UsageError: If one cannot be written, or a file is in the way.
    """
    waveforms = np.atleast_2d(self.waveform)
    count = None if self.waveform.ndim == 1 else len(waveforms)
    seconds = self.metadata['seconds']
    files = provenance.outputs(paths.local(path), count, seconds, overwrite)
    for row, file in enumerate(files):
      provenance.write_sound(
        file, waveforms[row], self.sample_rate, self._facts(row)
      )
    return files

  def _facts(self, row: int) -> dict[str, Any]:
    """What the metadata say of one piece."""
    facts = dict(self.metadata)
    facts['row'] = row + facts.pop('first_row', 0)
    for many, one in _OF_EACH.items():
      if many in facts:
        facts[one] = facts.pop(many)[row]
    return facts
