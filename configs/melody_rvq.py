"""The quantizer of melody tokens (MusicLM App. C).

`python -m musiclm_jax.train --config=configs/melody_rvq.py:tiny --network=DIR
--workdir=DIR`, DIR being the workdir of a trained melody network.

It reads the corpus that the LMs learn from, not composed melodies. A level
wants 20 distinct training pieces a code; a crop is one window of the melody
network, a longer one is several.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import embedding_rvq

_WINDOW = {'crop_seconds': 4.0}
# Laid over the sizes of both quantizers, `configs/base/embedding_rvq.py`.
SIZES = {
  'tiny': {'model': {'num_levels': 8, 'codebook_size': 32}, 'data': _WINDOW},
  'small': {'model': {'num_levels': 24, 'codebook_size': 128}, 'data': _WINDOW},
  'paper': {'model': {'num_levels': 24, 'codebook_size': 512}, 'data': _WINDOW},
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  return embedding_rvq.make_config('melody_rvq', SIZES, size)
