"""Turns music into a token store, which the token LMs learn from.

`python -m musiclm_jax.tokenize --workdirs=DIR --source=KIND:DIR --out=DIR`

`--workdirs` holds the workdirs soundstream, w2v_bert, kmeans, mulan and
mulan_rvq, or exports of these names, or is a bundle; where melody and
melody_rvq are there as well, the store holds melody tokens. The same command
again continues where it was interrupted and makes again what has changed;
several processes (see `launch.membership`) share the shards.
"""

import contextlib

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import bounds, ownership, paths, tensor_file
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import membership

_WORKDIRS = path_flags.DEFINE_path(
  'workdirs', None, 'Folder of the trained networks, or a bundle.'
)
_SOURCE = flags.DEFINE_string(
  'source', None, 'Music as kind:DIR (prepared, audio_folder, …).'
)
_OUT = path_flags.DEFINE_path('out', None, 'Folder of the token store.')
_CROP_SECONDS = flags.DEFINE_float(
  'crop_seconds',
  10.0,
  'Longest crop of a token LM, and that of kmeans and mulan_rvq: 10 at tiny, '
  '30 at small and paper.',
)
_HOP_SECONDS = flags.DEFINE_float(
  'hop_seconds', None, 'From crop to crop of a piece; None: no overlap.'
)
_MAX_PIECES = flags.DEFINE_integer(
  'max_pieces',
  None,
  'Most pieces of a split, its first ones; None: all.',
  *bounds.COUNT,
)
_MIN_DBFS = flags.DEFINE_float(
  'min_dbfs',
  -50.0,
  'Softer crops, beginnings and ends of pieces are left out; -120 keeps all.',
)
_SPLITS = flags.DEFINE_list(
  'splits', ['train', 'validation', 'test'], 'Splits to make.'
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 8, 'Crops that go through the networks at once.', *bounds.COUNT
)
_COARSE_LEVELS = flags.DEFINE_integer(
  'coarse_levels', 4, 'Acoustic levels of the coarse stage.'
)
_ACOUSTIC = flags.DEFINE_bool(
  'acoustic',
  True,
  'Whether there are acoustic tokens. The semantic stage needs none, and '
  'without them more music becomes tokens in the same time.',
)
_DTYPE = flags.DEFINE_enum(
  'dtype',
  'float32',
  tensor_file.DTYPES,
  'Rounds the networks first, as a bundle of this type will store them.',
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the token store that is at --out.'
)


def main() -> None:
  """Tokenizes the splits one after the other, alone in the store's folder."""
  cli.require(_WORKDIRS, _SOURCE, _OUT)
  if not _SPLITS.value or len(set(_SPLITS.value)) < len(_SPLITS.value):
    raise UsageError(
      f'--splits={",".join(_SPLITS.value)}: name one or more, each once'
    )
  from musiclm_jax.cascade import corpus

  cutting = corpus.Cutting(
    _CROP_SECONDS.value,
    _HOP_SECONDS.value,
    _BATCH_SIZE.value,
    _MAX_PIECES.value,
    _MIN_DBFS.value,
  )
  cutting.check()
  membership.join()
  import jax

  from musiclm_jax.data.token_store import FOLDER
  from musiclm_jax.launch import devices

  if _OVERWRITE.value and jax.process_count() > 1:
    raise UsageError('--overwrite is for one process: start it alone, first')
  ownership.check(_OUT.value, FOLDER)
  paths.check_folder(_OUT.value)
  devices.check()
  alone = ownership.hold(_OUT.value, FOLDER, 'writing tokens')
  with (
    contextlib.nullcontext() if jax.process_index() else alone,
    cli.resumable(_OUT.value),
  ):
    corpus.tokenize(
      _WORKDIRS.value,
      _SOURCE.value,
      _OUT.value,
      cutting,
      splits=_SPLITS.value,
      coarse_levels=_COARSE_LEVELS.value,
      acoustic=_ACOUSTIC.value,
      dtype=_DTYPE.value,
      overwrite=_OVERWRITE.value,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      report=cli.report,
      progress=cli.progress(),
    )


if __name__ == '__main__':
  cli.run(main)
