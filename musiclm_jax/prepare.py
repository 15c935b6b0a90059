"""Prepares a corpus to learn from.

`python -m musiclm_jax.prepare --source=rendered_music --out=DIR`

Composes and renders `--pieces` pieces (80 % train, 10 % validation, 10 %
test) in `--processes` processes; about 440 MB and 10-20 s for 100 pieces on
two cores. The same command again continues an interrupted build and does
nothing where the corpus is complete.
"""

import os
from pathlib import Path

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import bounds, progress
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable

_SOURCES = ('rendered_music',)
_SOURCE = flags.DEFINE_string(
  'source', 'rendered_music', f'Kind of corpus: {", ".join(_SOURCES)}.'
)
_OUT = path_flags.DEFINE_path('out', None, 'Folder of the corpus.')
_PIECES = flags.DEFINE_integer(
  'pieces', 800, 'Pieces in all splits together.', *bounds.PIECES
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Another seed is another corpus.', *bounds.SEED
)
_PROCESSES = flags.DEFINE_integer(
  'processes', None, 'Rendering processes; None: one a core.', 1, 4096
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the corpus that is at --out, if it is another.'
)


def _check_flags() -> None:
  if not _OUT.value:
    raise UsageError(f'--out is missing: {flags.FLAGS["out"].help}')
  if _SOURCE.value not in _SOURCES:
    raise UsageError(
      f'--source={_SOURCE.value}: only {", ".join(_SOURCES)} is prepared; '
      'folders of sound or MIDI files are read as they are'
    )


def main() -> None:
  """Renders the shards that are missing, then completes the corpus."""
  _check_flags()
  from musiclm_jax.contracts import paths
  from musiclm_jax.rendered_music import shards, soundfont

  folder = _OUT.value
  corpus = shards.Corpus(_PIECES.value, _SEED.value)
  overwrite = _OVERWRITE.value
  if overwrite or not shards.is_complete(folder, corpus):
    lacking = corpus.pieces
    if not overwrite:
      lacking = sum(s.last - s.first for s in shards.missing(folder, corpus))
    paths.check_room(folder, lacking * shards.BYTES_PER_PIECE, 'the pieces')
    with (
      shards.hold(folder, corpus, overwrite) as missing,
      cli.resumable(folder),
    ):
      soundfont.path()  # made once, before the processes ask for it
      _render(folder, corpus, missing)
      shards.finish(folder, corpus)
  line = f'{folder} is complete: {corpus.pieces} pieces'
  print(printable(line), flush=True)


def _render(folder: Path, corpus, missing: list) -> None:
  """Renders shards in processes and says how far it is."""
  import concurrent.futures
  import multiprocessing

  from musiclm_jax.rendered_music import shards

  processes = _PROCESSES.value or os.cpu_count() or 1
  left = sum(shard.last - shard.first for shard in missing)
  meter = progress.Meter('prepare', corpus.pieces, 'pieces', cli.progress())
  meter.advance(corpus.pieces - left, skipped=True)
  with concurrent.futures.ProcessPoolExecutor(
    min(processes, max(len(missing), 1)),
    mp_context=multiprocessing.get_context('spawn'),
    initializer=_begin_worker,
  ) as pool:
    waiting = {
      pool.submit(shards.write, folder, corpus, shard): shard
      for shard in missing
    }
    try:
      for future in concurrent.futures.as_completed(waiting):
        future.result()
        meter.advance(waiting[future].last - waiting[future].first)
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise


def _begin_worker() -> None:
  """One thread a process, which ends when the command is killed."""
  import multiprocessing
  import threading

  for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ[name] = '1'
  parent_process = multiprocessing.parent_process()

  def watch() -> None:
    parent_process.join()
    os._exit(1)  # else it would wait for work for ever

  threading.Thread(target=watch, daemon=True).start()


if __name__ == '__main__':
  cli.run(main)
