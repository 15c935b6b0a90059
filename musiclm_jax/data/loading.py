"""Loading: a function of a place and a generator -> batches, kept ahead.

Global example k depends on (seed, k) alone, and host h of H gets the rows
[h * b, (h + 1) * b) of each global batch, b = batch_size / H: the rows of all
hosts, one after the other, are the batch that a single host would see. Threads
and processes that read ahead change nothing of it.
"""

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np

from musiclm_jax.contracts.errors import UsageError

Batch = dict[str, np.ndarray]
FROM_CORES = 0  # as many readers as suit the machine
_PREFETCHED_BATCHES = 4
_FEWEST_THREADS, _MOST_THREADS = 4, 16
_CORES_FOR_PROCESSES = 8  # from which on the step leaves some to readers
_CORES_A_PROCESS, _MOST_PROCESSES = 4, 8


@dataclasses.dataclass(frozen=True)
class HostShard:
  """Which rows of a global batch this host reads.

  Attributes:
    index: Of this host.
    count: Of all hosts.
  """

  index: int = 0
  count: int = 1


@dataclasses.dataclass(frozen=True)
class Readers:
  """Who reads batches ahead.

  Attributes:
    threads: In each process; `FROM_CORES` takes one a core, 4 to 16.
    processes: 1 is this one alone, which is best where the training itself
      keeps all cores busy; more are beside it. `FROM_CORES` takes one for each
      4 cores from 8 cores on.
  """

  threads: int = FROM_CORES
  processes: int = FROM_CORES

  def resolved(self) -> 'Readers':
    """The same, with numbers for this machine."""
    cores = _cores()
    threads = min(max(cores, _FEWEST_THREADS), _MOST_THREADS)
    processes = 1
    if cores >= _CORES_FOR_PROCESSES:
      processes = min(cores // _CORES_A_PROCESS, _MOST_PROCESSES)
    return Readers(
      threads if self.threads == FROM_CORES else self.threads,
      processes if self.processes == FROM_CORES else self.processes,
    )


def stream(
  example: Callable[[int, np.random.Generator], Batch],
  count: int,
  batch_size: int,
  seed: int,
  start_step: int,
  shard: HostShard | None,
  readers: Readers | None = None,
) -> Iterator[Batch]:
  """Streams this host's rows of the global batches from `start_step` on.

  Args:
    example: Makes one row of a place in [0, count) and a generator; it is
      pickled where there are processes.
    count: Of the places, which an epoch visits once each.
    batch_size: Global batch size.
    seed: Of the order and of what is drawn.
    start_step: Global batch with which to begin.
    shard: This host's share of each batch; None: all of it.
    readers: Who reads ahead; None: as suits the machine.

  Raises:
    UsageError: If the batch does not divide among the hosts.
  """
  import grain

  shard, readers = shard or HostShard(), (readers or Readers()).resolved()
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
    num_threads=readers.threads, prefetch_buffer_size=_PREFETCHED_BATCHES
  )
  steps = grain.MapDataset.range(start_step, sys.maxsize)
  batches = steps.map(batch).to_iter_dataset(options)
  if readers.processes > 1:
    from absl import flags

    if not flags.FLAGS.is_parsed():  # grain asks for its own: by no command
      flags.FLAGS.mark_as_parsed()
    # Shared memory is scarce in containers, and some of it would be left over.
    pipes = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
    batches = grain.experimental.WithOptionsIterDataset(batches, pipes)
    processes = grain.MultiprocessingOptions(
      num_workers=readers.processes, per_worker_buffer_size=2
    )
    batches = batches.mp_prefetch(processes, worker_init_fn=_begin_process)
  return iter(batches)


def _begin_process(index: int, count: int) -> None:
  """Leaves signals to the training, and ends with it even if it is killed."""
  import multiprocessing

  del index, count
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
  parent = multiprocessing.parent_process()

  def watch() -> None:
    parent.join()
    os._exit(1)  # else it would wait for ever

  threading.Thread(target=watch, daemon=True).start()


def _cores() -> int:
  """The cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
