"""Held-out pieces that no corpus holds, and what is said of them.

piece of the test split -> the 10 s in its middle, what is audible in it, and
captions of three kinds.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from musiclm_jax.rendered_music import (
  captions,
  composer,
  paraphrases,
  performer,
  truth,
)

SAMPLE_RATE, SECONDS = performer.SAMPLE_RATE, 10.0
Caption = captions.Caption
Writer = Callable[[Mapping[str, Any], np.random.Generator], Caption]

# Music is held out in all; so are templates in the second, words in the third.
WRITERS: dict[str, Writer] = {
  'trained templates': lambda heard, rng: captions.write(heard, 'train', rng),
  'unseen templates': lambda heard, rng: captions.write(heard, 'test', rng),
  'unseen words': paraphrases.write,
}


@dataclasses.dataclass(frozen=True)
class Clips:
  """Clips of as many pieces.

  Attributes:
    waveforms: float32 [N, S] at 24 kHz.
    heard: `truth.audible` of each.
  """

  waveforms: np.ndarray
  heard: list[dict[str, Any]]

  def __len__(self) -> int:
    """Counts the clips."""
    return len(self.heard)


def render(count: int, seed: int = 0) -> Clips:
  """Composes and performs the first `count` pieces of the test split."""
  waveforms, heard = [], []
  length = round(SECONDS * SAMPLE_RATE)
  for index in range(count):
    score = composer.compose(seed, 'test', index)
    played = performer.perform(score)
    first = max(len(played.waveform) - length, 0) // 2
    part = played.waveform[first : first + length]
    waveforms.append(np.pad(part, (0, length - len(part))))
    start = first / SAMPLE_RATE
    record = truth.describe(score, played)
    heard.append(truth.audible(record, start, start + SECONDS))
  return Clips(np.stack(waveforms).astype(np.float32), heard)


def write(clips: Clips, kind: str, draw: int) -> list[Caption]:
  """One caption of a kind on each clip; another `draw`, another caption."""
  place = list(WRITERS).index(kind)
  return [
    WRITERS[kind](heard, np.random.default_rng([place, draw, index]))
    for index, heard in enumerate(clips.heard)
  ]


def fitting(
  said: list[Caption], clips: Clips, but: tuple[str, ...] = ()
) -> np.ndarray:
  """Which captions are true of which clips, bool [captions, clips].

  Args:
    said: Captions.
    clips: Clips.
    but: Attributes of which anything is taken for true.
  """
  rows = []
  for caption in said:
    stated = {k: v for k, v in caption.stated.items() if k not in but}
    if caption.stated and not stated:
      rows.append([not heard['near_silence'] for heard in clips.heard])
    else:
      rows.append([captions.fits(stated, heard) for heard in clips.heard])
  return np.array(rows)
