"""A stream of batches as a pure function of (seed, step), on any host count."""

import dataclasses
import sys
from collections.abc import Callable, Iterator

import numpy as np

from musiclm_jax.contracts.errors import UsageError

Batch = dict[str, np.ndarray]
READ_THREADS = 4
PREFETCHED_BATCHES = 4


@dataclasses.dataclass(frozen=True)
class Shard:
  """Which rows of a global batch this host reads.

  Attributes:
    index: Of this host.
    count: Of all hosts.
  """

  index: int = 0
  count: int = 1


def stream(
  example: Callable[[int, np.random.Generator], Batch],
  count: int,
  batch_size: int,
  seed: int,
  start_step: int,
  shard: Shard | None,
) -> Iterator[Batch]:
  """Streams this host's rows of the global batches from `start_step` on.

  `example` makes one row of a place in [0, count) and a generator.
  """
  import grain

  shard = shard or Shard()
  if batch_size % shard.count:
    raise UsageError(
      f'batch_size={batch_size} does not divide among {shard.count} hosts: '
      f'choose a multiple of {shard.count}'
    )
  rows = batch_size // shard.count
  examples = (
    grain.MapDataset.range(count)
    .shuffle(seed=seed)
    .repeat(None)
    .random_map(example, seed=seed)
  )

  def batch(step: int) -> Batch:
    first = step * batch_size + shard.index * rows
    parts = [examples[first + row] for row in range(rows)]
    return {name: np.stack([p[name] for p in parts]) for name in parts[0]}

  options = grain.ReadOptions(
    num_threads=READ_THREADS, prefetch_buffer_size=PREFETCHED_BATCHES
  )
  steps = grain.MapDataset.range(start_step, sys.maxsize)
  return iter(steps.map(batch).to_iter_dataset(options))
