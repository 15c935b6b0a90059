"""MuLan cycle consistency: does music fit its own text (MusicLM §4.4).

unit embeddings of N texts and of the music made from them, [N, D] -> mean
cosine. Much of it is the offset between texts and music that all pairs share:
the mean over texts of others is taken off as well.
"""

import dataclasses

import numpy as np

from musiclm_jax.metrics import bootstrap


@dataclasses.dataclass(frozen=True)
class CycleConsistency:
  """Cosines of pairs.

  Attributes:
    cosines: Of each clip with its own text, [N].
    raw: Their mean, with one-sided 95 % bounds over prompts.
    mismatched: Mean cosine of clips with the texts of other prompts; None if
      all have one prompt.
    above_mismatched: `raw` without it, with bounds; None likewise.
  """

  cosines: np.ndarray
  raw: bootstrap.Interval
  mismatched: float | None
  above_mismatched: bootstrap.Interval | None


def cycle_consistency(
  text: np.ndarray,
  audio: np.ndarray,
  prompts: list[str] | None = None,
  *,
  seed: int = 0,
) -> CycleConsistency:
  """Compares music with the texts that it was made from.

  Args:
    text: Unit embeddings of the prompts, [N, D]; row i belongs to row i of
      `audio`.
    audio: Unit embeddings of the music, [N, D].
    prompts: Of each row; rows of one prompt are one unit of the bootstrap and
      no mismatched pair. None: all differ.
    seed: Of the resampling.

  Raises:
    ValueError: If there is no pair, or rows are not paired.
  """
  text, audio = (np.asarray(x, np.float64) for x in (text, audio))
  if text.shape != audio.shape or not len(text):
    raise ValueError(
      f'expected pairs of embeddings, got {text.shape} and {audio.shape}'
    )
  units = list(range(len(text))) if prompts is None else list(prompts)
  rows = {unit: row for row, unit in enumerate(dict.fromkeys(units))}
  index = np.array([rows[unit] for unit in units])
  cosines = (text * audio).sum(axis=1)
  own = bootstrap.unit_means(cosines, units)[0]
  raw = bootstrap.mean(own, seed=seed)
  if len(rows) < 2:
    return CycleConsistency(cosines, raw, None, None)
  # Sums over texts, less those of the clip's own prompt: no [N, N] is needed.
  of_prompt = np.zeros((len(rows), text.shape[1]))
  np.add.at(of_prompt, index, text)
  count = np.bincount(index)
  others = (audio @ text.sum(axis=0)) - (audio * of_prompt[index]).sum(axis=1)
  others = others / (len(text) - count[index])
  mismatched = bootstrap.unit_means(others, units)[0]
  return CycleConsistency(
    cosines,
    raw,
    float(mismatched.mean()),
    bootstrap.difference(own, mismatched, seed=seed),
  )
