"""Turns music into a token store, which the token LMs learn from.

`python -m musiclm_jax.tokenize --workdirs=DIR --source=KIND:DIR --out=DIR`

`--workdirs` holds the workdirs soundstream, w2v_bert, kmeans, mulan and
mulan_rvq, or is a bundle; where melody and melody_rvq are there as well, the
store holds melody tokens. The same command again continues where it was
interrupted and makes again what has changed; several processes (see
`launch.membership`) share the shards.
"""

import contextlib

from absl import flags

from musiclm_jax import door, path_flags
from musiclm_jax.contracts import bounds, ownership, paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import membership

FRAME_SECONDS = 0.04  # of a semantic token
_WORKDIRS = path_flags.DEFINE_path(
  'workdirs', None, 'Folder of the trained networks, or a bundle.'
)
_SOURCE = flags.DEFINE_string(
  'source', None, 'Music as kind:DIR (rendered_music, audio_folder, …).'
)
_OUT = path_flags.DEFINE_path('out', None, 'Folder of the token store.')
_CROP_SECONDS = flags.DEFINE_float(
  'crop_seconds', 10.0, 'Longest crop of a token LM: 10 at tiny, 30 at paper.'
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
  'min_dbfs', -50.0, 'Softer crops are left out; -120 keeps all.'
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
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the token store that is at --out.'
)


def _check_flags() -> None:
  for flag in (_WORKDIRS, _SOURCE, _OUT):
    if not flag.value:
      raise UsageError(
        f'--{flag.name} is missing: {flags.FLAGS[flag.name].help}'
      )
  for flag in (_CROP_SECONDS, _HOP_SECONDS):
    if flag.value is not None:
      bounds.check(f'--{flag.name}', flag.value, (FRAME_SECONDS, 86_400.0))
  if not -120 <= _MIN_DBFS.value <= 0:
    raise UsageError(
      f'--min_dbfs={_MIN_DBFS.value}: choose a level from -120 (all) to 0'
    )
  if not _SPLITS.value or len(set(_SPLITS.value)) < len(_SPLITS.value):
    raise UsageError(
      f'--splits={",".join(_SPLITS.value)}: name one or more, each once'
    )
  frames = _CROP_SECONDS.value / FRAME_SECONDS
  if abs(frames - round(frames)) > 1e-6:
    raise UsageError(
      f'--crop_seconds={_CROP_SECONDS.value}: choose a multiple of 0.04 s, so '
      'that it is a whole number of semantic frames'
    )


def main() -> None:
  """Tokenizes the splits one after the other, alone in the store's folder."""
  _check_flags()
  membership.join()
  import jax

  from musiclm_jax.data.token_store import FOLDER

  if _OVERWRITE.value and jax.process_count() > 1:
    raise UsageError('--overwrite is for one process: start it alone, first')
  ownership.check(_OUT.value, FOLDER)
  paths.check_folder(_OUT.value)
  alone = ownership.hold(_OUT.value, FOLDER, 'writing tokens')
  with contextlib.nullcontext() if jax.process_index() else alone:
    _tokenize(jax.process_index(), jax.process_count())


def _tokenize(process_index: int, process_count: int) -> None:
  """Tokenizes this process's shards of each split."""
  from musiclm_jax.cascade import networks, source_code
  from musiclm_jax.cascade.bundle import OPTIONAL, TOKENIZERS
  from musiclm_jax.cascade.corpus import Corpus
  from musiclm_jax.cascade.tokenizer import Tokenizer
  from musiclm_jax.cascade.vocabulary import find_vocabulary
  from musiclm_jax.data.sources import open_source
  from musiclm_jax.data.text import WordPiece as Vocabulary
  from musiclm_jax.data.token_store import FOLDER
  from musiclm_jax.launch import devices

  devices.check()
  opened = {split: open_source(_SOURCE.value, split) for split in _SPLITS.value}
  for split, source in opened.items():
    if split != 'train':
      source.num_captioned()  # what is wrong with them is said before the work
  tokenizer = Tokenizer(
    networks.load_all(_WORKDIRS.value, TOKENIZERS, OPTIONAL),
    Vocabulary.load(find_vocabulary(_WORKDIRS.value)),
  )
  contract = tokenizer.contract(_COARSE_LEVELS.value)
  code = source_code.digest('musiclm_jax.cascade.corpus', contract.networks)
  hop = _HOP_SECONDS.value or _CROP_SECONDS.value
  if _OVERWRITE.value:
    ownership.clear(_OUT.value, FOLDER)
  for split, source in opened.items():
    corpus = Corpus(
      tokenizer,
      source,
      split,
      _CROP_SECONDS.value,
      hop,
      _BATCH_SIZE.value,
      _MAX_PIECES.value,
      _MIN_DBFS.value,
      door.report,
      code,
    )
    left_out = corpus.write(
      _OUT.value,
      _SOURCE.value,
      contract,
      process_index,
      process_count,
    )
    if left_out.short_pieces:
      door.report(
        f'{split}: {left_out.short_pieces} pieces of less than half a crop '
        'left out'
      )
    if left_out.soft_crops:
      door.report(
        f'{split}: {left_out.soft_crops} crops below {_MIN_DBFS.value:g} dBFS '
        'left out'
      )
  door.report(f'tokens of {", ".join(opened)} are in {_OUT.value}')


if __name__ == '__main__':
  door.run(main)
