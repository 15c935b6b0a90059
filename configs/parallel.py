"""Parallel LM: MuLan, semantic tokens -> all acoustic levels (SoundStorm).

`python -m musiclm_jax.train --config=configs/parallel.py:tiny --tokens=DIR
--workdir=DIR`

It takes the place of the coarse and the fine LM in `generate --parallel=DIR`
and reads the token store that these learn from. `paper` is 18 layers, 340.9 M
parameters, 30 s crops of 1,500 frames: SoundStorm's 350 M are in 12 Conformer
blocks of this width (2305.09636, section 4), which have a second MLP and a
convolution each. Its optimizer and its batch are those of the other LMs.

`--config.loss.no_semantic_probability=0.1` leaves out what conditions it in a
share of the examples, so that guidance pushes towards semantic tokens.
`--config.loss.first_level_probability=0.5` asks half of the examples for the
first level, which takes 16 rounds of decoding where the others have one each.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import language_model


def _loss(no_semantic_probability: float) -> dict[str, float]:
  return {
    'no_semantic_probability': no_semantic_probability,
    'first_level_probability': 0.0,
  }


# Laid over the sizes of all LMs, in `configs/base/language_model.py`.
SIZES = {
  'tiny': {
    'loss': _loss(0.0),
    'schedule': {'total_steps': 2200, 'eval_every': 550},
    'data': {'batch_size': 16, 'crop_seconds': 2.4},
  },
  'small': {'loss': _loss(0.1), 'data': {'crop_seconds': 10.0}},
  'paper': {
    'model': {'num_layers': 18},
    'loss': _loss(0.0),
    'data': {'crop_seconds': 30.0},
  },
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  return language_model.make_config(
    'parallel', SIZES, size, melody=False, causal=False
  )
