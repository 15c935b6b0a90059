"""The quantizer of MuLan tokens (MusicLM §3.1).

`python -m musiclm_jax.train --config=configs/mulan_rvq.py:tiny --network=DIR
--workdir=DIR`, DIR being the workdir of a trained MuLan.

A level wants 20 distinct training pieces a code; crops are as long as the
records that the LMs read, so that the mean is over as many windows: 30 s are
21 of them, and cost 21 times as much as 10 s.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import embedding_rvq

# Laid over the sizes of both quantizers, `configs/base/embedding_rvq.py`.
SIZES = {
  'tiny': {
    'model': {'num_levels': 12, 'codebook_size': 32},
    # Without it, levels 9 to 12 had 4 of 32 codes in use.
    'loss': {'split_share': 0.25},
    'data': {'crop_seconds': 10.0},
  },
  'small': {
    'model': {'num_levels': 12, 'codebook_size': 128},
    'data': {'crop_seconds': 30.0},
  },
  'paper': {
    'model': {'num_levels': 12, 'codebook_size': 1024},
    'data': {'crop_seconds': 30.0},
  },
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  return embedding_rvq.make_config('mulan_rvq', SIZES, size)
