"""Fine LM: MuLan tokens, acoustic levels 1-4 -> levels 5-12 (MusicLM §3.2).

`python -m musiclm_jax.train --config=configs/fine.py:tiny --tokens=DIR
--workdir=DIR`

`paper` is 24 layers, 453.0 M parameters, 3 s crops of 1,812 tokens. The `tiny`
crop is 1.6 s: 40 whole semantic and 80 whole acoustic frames.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import language_model

_TIME = {'time_buckets': 32, 'time_peak': 5.0}
# Laid over the sizes of all LMs, in `configs/base/language_model.py`.
SIZES = {
  'tiny': {
    'model': _TIME,
    'schedule': {'total_steps': 700, 'eval_every': 175},
    'data': {'batch_size': 4, 'crop_seconds': 1.6},
  },
  'small': {'model': _TIME, 'data': {'crop_seconds': 3.0}},
  'paper': {'data': {'crop_seconds': 3.0}},
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  return language_model.make_config('fine', SIZES, size, melody=False)
