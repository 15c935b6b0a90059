"""w2v-BERT, the network below semantic tokens (Chung et al., 2021).

`python -m musiclm_jax.train --config=configs/w2v_bert.py:tiny --workdir=DIR`
"""

from ml_collections import ConfigDict

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
    'optimizer': 'muon',
    'batch_size': 16,
    'crop_seconds': 4.0,
    'steps': 400,
    'evaluate_every': 100,
    'log_every': 10,
    'schedule': 'cosine',
    'learning_rate': 4e-3,
    'warmup_steps': 20,
    'source': 'rendered_music:runs/demo/corpus',
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
      'dtype': 'bfloat16',
      'scan_unroll': 2,
    },
    'optimizer': 'adam',
    'batch_size': 64,
    'crop_seconds': 10.0,
    'steps': 40_000,
    'evaluate_every': 1_000,
    'log_every': 50,
    'schedule': 'cosine',
    'learning_rate': 1e-3,
    'warmup_steps': 2_000,
    'source': 'rendered_music:runs/small/corpus',
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
    'optimizer': 'adam',
    'batch_size': 2048,
    'crop_seconds': 30.0,
    'steps': 400_000,
    'evaluate_every': 5_000,
    'log_every': 100,
    'schedule': 'inverse_sqrt',
    'learning_rate': 2e-3,
    'warmup_steps': 25_000,
    'source': 'audio_folder:data/fma',
  },
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  if size not in SIZES:
    raise ValueError(f"unknown size '{size}': choose one of tiny, small, paper")
  chosen = SIZES[size]
  return ConfigDict(
    {
      'stage': 'w2v_bert',
      'seed': 0,
      'model': {
        'num_mels': 80,
        'num_cepstra': 0,
        'kernel_size': 5,
        'conv_norm': 'layer',
        'dropout_rate': 0.0,
        'quantizer_gradient': 1.0,
        'quantizer_inertia': 1.0,
        'dtype': 'float32',
        'remat': 'none',
        'scan_unroll': 1,
        **chosen['model'],
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
      'optimizer': {
        'w2v_bert': {
          'name': chosen['optimizer'],
          'schedule': chosen['schedule'],
          'learning_rate': chosen['learning_rate'],
          'warmup_steps': chosen['warmup_steps'],
          'b1': 0.9,
          'b2': 0.98,
          'weight_decay': 0.0,
          'clip_norm': 1.0,
        }
      },
      'schedule': {
        'total_steps': chosen['steps'],
        'log_every': chosen['log_every'],
        'eval_every': chosen['evaluate_every'],
        'save_every': chosen['evaluate_every'],
        'keep_every': 40_000 if size == 'paper' else 0,
        # Its held-out loss is easiest where few codes are used, not best.
        'keep_best': '',
      },
      'data': {
        'source': chosen['source'],
        'batch_size': chosen['batch_size'],
        'crop_seconds': chosen['crop_seconds'],
        'eval_batches': 4,
      },
      'training': {'accumulation': 1, 'ema_decay': 0.0},
      # Parameters over all devices: fsdp=0 takes what tensor leaves.
      'mesh': {'fsdp': 0 if size == 'paper' else 1, 'tensor': 1},
    }
  )
