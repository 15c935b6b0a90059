"""Held-out music that nobody has trained on: pieces, prompts and melodies.

seed -> pieces of the test split, rendered -> captions and the crops that they
describe; melodies of that split, hummed or whistled.
"""

import concurrent.futures
import functools
import math

import numpy as np

from experiments.tiny_cascade import cascade_checks
from experiments.tiny_cascade.artifacts import CorpusSplit
from experiments.tiny_cascade.cascade_checks import Prompts
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.data.preparable import RenderedPieces
from musiclm_jax.rendered_music import melody_takes
from musiclm_jax.rendered_music.descriptions import Descriptions

SPLIT = 'test'
_PIECES_A_PROMPT = 16  # of each family
_HUM = melody_takes.Variety(voice_share=1.0, tempo_change=0.0)


class HeldOutPieces:
  """Pieces of the test split of rendered music; see `sources.Source`.

  Attributes:
    sample_rate: 24,000 Hz.
    describe: See `Descriptions`.
    attributes: See `Descriptions`.
  """

  sample_rate = SAMPLE_RATE

  def __init__(self, count: int, seed: int):
    """Renders `count` pieces of the music of `seed`, on two threads."""
    self._pieces = RenderedPieces(SPLIT, count, seed)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      self._made = list(pool.map(self._render, range(count)))
    said = Descriptions(SPLIT, lambda i: self._made[i][1])
    self.describe, self.attributes = said.describe, said.attributes

  def _render(self, i: int) -> tuple[np.ndarray, dict]:
    stretches, made = self._pieces.make(i)
    return np.concatenate([part for part, _ in stretches]), made['record']

  def __len__(self) -> int:
    """Counts the pieces."""
    return len(self._made)

  def piece_id(self, i: int) -> str:
    """Names piece `i`."""
    return self._pieces.piece_id(i)

  def num_samples(self, i: int) -> int:
    """Tells the length of piece `i`."""
    return len(self._made[i][0])

  def read(
    self, i: int, start: int = 0, num_samples: int | None = None
  ) -> np.ndarray:
    """Reads [start, start + num_samples) of piece `i`, zero-padded."""
    waveform = self._made[i][0]
    if num_samples is None:
      num_samples = max(len(waveform) - start, 0)
    part = waveform[start : start + num_samples]
    return np.pad(part, (0, num_samples - len(part)))


@functools.lru_cache(1)
def prompted(count: int, seed: int) -> tuple[Prompts, np.ndarray]:
  """Captions that name a lead family, and crops of 10 s that they describe.

  More pieces bring more of each family.

  Args:
    count: Pieces to render.
    seed: Of music and captions.

  Returns:
    P prompts, by family, and waveforms [P, S].
  """
  split = CorpusSplit(HeldOutPieces(count, seed), store=None)
  of_each = math.ceil(count / _PIECES_A_PROMPT)
  prompts = cascade_checks.choose_prompts(split, seed, of_each)
  return prompts, np.stack([split.read(crop) for crop in prompts.crops])


def melodies(count: int, seconds: float, seed: int) -> np.ndarray:
  """Hums and whistles of as many melodies, [N, S]."""
  takes = []
  for index in range(count):
    melody = melody_takes.compose(seed, SPLIT, index, seconds)
    rng = np.random.default_rng([seed, 9, index])
    longest = seconds * melody.bpm / 60.0
    start = rng.uniform(0, max(melody.beats - longest, 0.0))
    take = melody_takes.perform(melody, _HUM, start, seconds, rng)
    takes.append(take.waveform)
  return np.stack(takes)
