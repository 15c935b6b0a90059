"""w2v-BERT, the network below semantic tokens (Chung et al., 2021).

`python -m musiclm_jax.train --config=configs/w2v_bert.py:tiny --workdir=DIR`

`model.attention_seconds` says how far a frame attends to before and after it.
At `small` it is limited, so that semantic tokens do not depend on the length
of the clip that they are made of; elsewhere it is None, the whole clip.
"""

from ml_collections import ConfigDict, config_dict

from musiclm_jax.configs.base import sections

SIZES = {
  'tiny': {
    'model': {
      'embed_dim': 128,
      'num_heads': 4,
      'mlp_dim': 512,
      'contrastive_blocks': 2,
      'masked_blocks': 2,
      'codebook_size': 1024,
      'code_dim': 128,
      'conv_channels': (32, 16),
      'quantizer_gradient': 0.0,
      'quantizer_inertia': 10.0,
      'num_cepstra': 23,
    },
    'optimizer': {
      'w2v_bert': {'name': 'muon', 'learning_rate': 4e-3, 'warmup_steps': 20}
    },
    'schedule': {'total_steps': 400, 'eval_every': 100},
    'data': {
      'source': sections.TINY_CORPUS,
      'batch_size': 16,
      'crop_seconds': 4.0,
    },
  },
  'small': {
    'model': {
      'embed_dim': 256,
      'num_heads': 4,
      'mlp_dim': 1024,
      'contrastive_blocks': 2,
      'masked_blocks': 2,
      'codebook_size': 512,
      'code_dim': 256,
      'conv_channels': (64, 32),
      'quantizer_gradient': 0.0,
      'quantizer_inertia': 10.0,
      'attention_seconds': 2.0,
      'dtype': 'bfloat16',
      'scan_unroll': 2,
    },
    'optimizer': {'w2v_bert': {'learning_rate': 1e-3, 'warmup_steps': 2_000}},
    'schedule': {'total_steps': 40_000, 'log_every': 50, 'eval_every': 1_000},
    'data': {
      'source': sections.SMALL_CORPUS,
      'batch_size': 64,
      'crop_seconds': 10.0,
    },
  },
  'paper': {
    'model': {
      'embed_dim': 1024,
      'num_heads': 8,
      'mlp_dim': 4096,
      'contrastive_blocks': 12,
      'masked_blocks': 12,
      'codebook_size': 1024,
      'code_dim': 1024,
      'conv_channels': (128, 32),
      'conv_norm': 'batch',
      'dropout_rate': 0.1,
      'dtype': 'bfloat16',
      'remat': 'full',
    },
    'optimizer': {
      'w2v_bert': {
        'schedule': 'inverse_sqrt',
        'learning_rate': 2e-3,
        'warmup_steps': 25_000,
      }
    },
    'schedule': {
      'total_steps': 400_000,
      'log_every': 100,
      'eval_every': 5_000,
      'keep_every': 40_000,
    },
    'data': {
      'source': 'audio_folder:data/fma',
      'batch_size': 2048,
      'crop_seconds': 30.0,
    },
    'mesh': {'fsdp': 0},
  },
}
# Its held-out loss is easiest where few codes are used, not best: of its
# checkpoints none is kept as the best one.
_EVERY = {
  'model': {
    'num_mels': 80,
    'num_cepstra': 0,
    'kernel_size': 5,
    'conv_norm': 'layer',
    'dropout_rate': 0.0,
    'quantizer_gradient': 1.0,
    'quantizer_inertia': 1.0,
    'attention_seconds': config_dict.placeholder(float),
    'feature_depth': config_dict.placeholder(int),
    'dtype': 'float32',
    'remat': 'none',
    'scan_unroll': 1,
  },
  'loss': {
    'mask_probability': 0.065,
    'mask_span': 10,
    'num_distractors': 100,
    'contrastive_temperature': 0.1,
    'diversity_weight': 0.1,
    'first_temperature': 2.0,
    'last_temperature': 0.5,
    'contrastive_only': 0.1,
  },
  'optimizer': {'w2v_bert': {**sections.PLAYER, 'b2': 0.98}},
  'data': {'eval_batches': 4},
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  own = sections.of_size(SIZES, size)
  return sections.make_config('w2v_bert', _EVERY, own)
