"""Coarse LM: MuLan and semantic tokens -> acoustic levels 1-4 (MusicLM §3.2).

`python -m musiclm_jax.train --config=configs/coarse.py:tiny --tokens=DIR
--workdir=DIR`

`paper` is 24 layers, 438.4 M parameters, 10 s crops of 2,262 tokens.

`--config.layout.melody=True` conditions it on a melody (App. C) after MuLan's
tokens, from a token store that has it. Its windows are of 4 s: at `tiny` also
give `--config.data.crop_seconds=4` or more.

`--config.layout.semantic=False` is the paper's ablation without a semantic
stage: acoustic tokens from MuLan's alone.

`--config.loss.no_semantic_probability=0.1` leaves out what conditions it in a
share of the examples, so that `guidance_coarse` pushes towards semantic tokens.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import language_model

_TIME = {'time_buckets': 32, 'time_peak': 5.0}
# Laid over the sizes of all LMs, in `configs/base/language_model.py`.
SIZES = {
  # Few parameters and many tokens: 2 x 128 had read 2,000 crops in six minutes
  # on one core, 4 x 256 600 in nine: 4.04 against 4.55 nats.
  # Nats per held-out token, each on crops of its own length: 4.08 after 1,000
  # steps of 4 crops of 5 s, 3.99 after 1,300 of 8 of 2.4 s (no longer), 3.84
  # after 2,200; pitches in 34, 62 and 84 % of the clips.
  'tiny': {
    'model': _TIME,
    'schedule': {'total_steps': 2200, 'eval_every': 550},
    'data': {'batch_size': 8, 'crop_seconds': 2.4},
  },
  'small': {'model': _TIME, 'data': {'crop_seconds': 10.0}},
  'paper': {'data': {'crop_seconds': 10.0}},
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  return language_model.make_config(
    'coarse', SIZES, size, melody=True, semantic=True
  )
