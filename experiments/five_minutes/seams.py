"""Are joints heard? Steps between samples where windows meet, and elsewhere."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from musiclm_jax.cascade import decoder
from musiclm_jax.cascade.stage_run import STAGES
from musiclm_jax.cascade.windows import chunks, windows
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.token_lm.layout import Layout

_SIDES = ('left', 'right')
_REACH = 24  # samples to either side of a joint, 1 ms


@dataclasses.dataclass(frozen=True)
class Seams:
  """Steps of a waveform at the joints of one stage.

  Attributes:
    joints: How many.
    largest: Step at one.
    largest_elsewhere: Step.
    place: Mean share of other beginnings of frames whose largest step is
      smaller: 0.5 where joints are like these.
  """

  joints: int
  largest: float
  largest_elsewhere: float
  place: float


def joints(
  layouts: Mapping[str, Layout], seconds: float, hop: int
) -> dict[str, list]:
  """Stage -> samples at which one of its windows begins to add.

  Args:
    layouts: Stage -> layout.
    seconds: Length of the piece.
    hop: Samples of a frame of the codec.
  """
  found = {}
  for name, layout in layouts.items():
    predicted = layout.predicted
    total = math.ceil(seconds * predicted.frame_rate)
    cut = windows if STAGES[name].continues else chunks
    found[name] = [
      round((w.start + w.prefix) * SAMPLE_RATE / predicted.frame_rate)
      for w in cut(total, predicted.num_frames)[1:]
    ]
  block = hop * decoder.BLOCK_FRAMES
  found['blocks'] = list(range(block, round(seconds * SAMPLE_RATE), block))
  return found


def measure(waveform: np.ndarray, at: Iterable[int], hop: int) -> Seams:
  """Compares the steps around some samples with all others.

  Args:
    waveform: float [S].
    at: First sample after each joint, where a frame of the codec begins.
    hop: Samples of such a frame.
  """
  steps = np.abs(np.diff(waveform, prepend=waveform[:1]))
  frames = np.arange(hop, len(steps) - _REACH, hop)
  largest = np.array([steps[s - _REACH : s + _REACH].max() for s in frames])
  joined = np.isin(frames, list(at))
  others = np.sort(largest[~joined])
  # Frames of a held tone are equal: a joint among them is in their middle.
  sides = [np.searchsorted(others, largest[joined], k) for k in _SIDES]
  places = np.mean(sides, axis=0) / len(others)
  apart = np.ones(len(steps), bool)
  for sample in frames[joined]:
    apart[sample - _REACH : sample + _REACH] = False
  return Seams(
    int(joined.sum()),
    float(largest[joined].max()),
    float(steps[apart].max()),
    float(places.mean()),
  )
