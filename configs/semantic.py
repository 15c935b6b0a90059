"""Semantic LM: MuLan tokens -> semantic tokens (MusicLM §3.2).

`python -m musiclm_jax.train --config=configs/semantic.py:tiny --tokens=DIR
--workdir=DIR`

`paper` is 24 layers, 430.0 M parameters, 30 s crops of 762 tokens. `small`
fits a GPU, `tiny` two CPU cores.

`--config.layout.melody=True` conditions it on a melody (App. C) after MuLan's
tokens, from a token store that has it.

`tiny` reads whole crops of 10 s, with dropout: of crops of 2.4 s it learns
less (`experiments/tiny_cascade/`). Longer music comes out of windows.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import language_model

# Laid over the sizes of all LMs, in `configs/base/language_model.py`.
SIZES = {
  'tiny': {
    'model': {'dropout_rate': 0.1},
    'schedule': {'total_steps': 1600, 'eval_every': 400},
    'data': {'batch_size': 8, 'crop_seconds': 10.0},
  },
  'small': {'data': {'crop_seconds': 30.0}},
  'paper': {'data': {'crop_seconds': 30.0}},
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  return language_model.make_config('semantic', SIZES, size, melody=True)
