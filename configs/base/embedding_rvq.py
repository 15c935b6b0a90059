"""What the two quantizers of embeddings share: MuLan's and the melody's.

Their player owns codebooks and no parameters: it has no optimizer. A level
wants 20 distinct training pieces a code.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from musiclm_jax.configs.base import sections

_EVERY = {
  'loss': {
    'decay': 0.9,
    'dead_threshold': 1.0,
    'kmeans_iterations': 20,
    'pieces_per_code': 20,
    # Share of the mean use below which a code is dead, and takes half of one
    # that is used much; 0 puts a point in its place instead.
    'split_share': 0.0,
  },
  'schedule': {'log_every': 1},
  'data': {'eval_batches': 2},
}
_SIZES = {
  'tiny': {
    'loss': {'statistics_steps': 6},
    'schedule': {'total_steps': 26, 'eval_every': 13},
    'data': {'source': sections.TINY_CORPUS, 'batch_size': 128},
  },
  'small': {
    'loss': {'statistics_steps': 20, 'split_share': 0.25},
    'schedule': {'total_steps': 200, 'eval_every': 50},
    'data': {'source': sections.SMALL_CORPUS, 'batch_size': 512},
  },
  'paper': {
    'loss': {'statistics_steps': 100},
    'schedule': {'total_steps': 2_000, 'eval_every': 500},
    'data': {'source': 'audio_folder:data/music', 'batch_size': 8192},
  },
}


def make_config(stage: str, sizes: Mapping[str, Any], size: str) -> ConfigDict:
  """Makes the config of one of the two quantizers.

  Args:
    stage: `mulan_rvq` or `melody_rvq`.
    sizes: Size -> what this one has of its own, laid over what both have.
    size: Of `sizes`.

  Raises:
    ValueError: If there is no such size.
  """
  own = sections.of_size(sizes, size)
  return sections.make_config(stage, _EVERY, _SIZES[size], own)
