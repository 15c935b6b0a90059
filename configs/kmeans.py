"""The semantic codebook: k-means on w2v-BERT features (AudioLM §4.1).

`python -m musiclm_jax.train --config=configs/kmeans.py:tiny --network=DIR
--workdir=DIR`, DIR being the workdir of a trained w2v-BERT of the same size.

Crops are as long as the records that the LMs read: features see their
neighbours, and the last seconds of a clip see fewer of them.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import sections

SIZES = {
  'tiny': {
    'model': {'codebook_size': 256},
    'loss': {'statistics_steps': 8},
    'schedule': {'total_steps': 40, 'eval_every': 20},
    'data': {
      'source': sections.TINY_CORPUS,
      'batch_size': 16,
      'crop_seconds': 10.0,
    },
  },
  'small': {
    'model': {'codebook_size': 1024},
    'loss': {'statistics_steps': 50},
    'schedule': {'total_steps': 500, 'eval_every': 100},
    'data': {
      'source': sections.SMALL_CORPUS,
      'batch_size': 64,
      'crop_seconds': 30.0,
    },
  },
  'paper': {
    'model': {'codebook_size': 1024},
    'loss': {'statistics_steps': 500},
    'schedule': {'total_steps': 5_000, 'eval_every': 500},
    'data': {
      'source': 'audio_folder:data/fma',
      'batch_size': 256,
      'crop_seconds': 30.0,
    },
  },
}
# The player owns centroids and no parameters: it has no optimizer.
_EVERY = {
  'loss': {
    'lloyd_iterations': 20,
    'decay': 0.95,
    'dead_share': 0.05,
    'frames_per_centroid': 100,
  },
  'schedule': {'log_every': 1},
  'data': {'eval_batches': 4},
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  own = sections.of_size(SIZES, size)
  return sections.make_config('kmeans', _EVERY, own)
