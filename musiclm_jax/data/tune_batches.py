"""Batches of tunes, each played twice: {'waveform' [b, 2, S], 'group' [b]}.

Composed and rendered as they are asked for; no corpus is prepared and nothing
is kept on disk.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.stream import Batch, Shard, stream
from musiclm_jax.rendered_music import tunes


@dataclasses.dataclass(frozen=True)
class TuneBook:
  """Tunes that batches are made of.

  Attributes:
    split: Of the tunes.
    count: Of the tunes; an epoch plays each once.
    variety: How takes differ.
    seed: Of the tunes.
  """

  split: str
  count: int
  variety: tunes.Variety
  seed: int = 0

  def pair(
    self, index: int, seconds: float, rng: np.random.Generator
  ) -> tuple[tunes.Take, tunes.Take]:
    """Plays tune `index` twice."""
    tune = tunes.compose(self.seed, self.split, index, seconds)
    return tunes.pair(tune, self.variety, seconds, rng)


def tune_batches(
  book: TuneBook,
  *,
  batch_size: int,
  crop_seconds: float,
  seed: int,
  start_step: int = 0,
  shard: Shard | None = None,
) -> Iterator[Batch]:
  """Draws tunes forever, with other takes at each return.

  Args:
    book: The tunes.
    batch_size: Global batch size, in tunes.
    crop_seconds: Length of a take.
    seed: Of order and takes.
    start_step: Global batch with which to begin.
    shard: This host's share of each batch.

  Returns:
    Iterator of {'waveform' float32 [b, 2, S] at 24 kHz, 'group' int32 [b]},
    the group being the tune's index.

  Raises:
    UsageError: If there is no tune, or a batch holds more than there are.
  """
  if not 0 < batch_size <= book.count:
    raise UsageError(
      f'a batch of {batch_size} needs as many tunes, came {book.count}: raise '
      'config.data.tunes or lower config.data.batch_size'
    )

  def example(place: int, rng: np.random.Generator) -> Batch:
    takes = book.pair(place, crop_seconds, rng)
    return {
      'waveform': np.stack([take.waveform for take in takes]),
      'group': np.int32(place),
    }

  return stream(example, book.count, batch_size, seed, start_step, shard)
