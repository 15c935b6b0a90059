"""Fine LM: MuLan tokens, acoustic levels 1-4 -> levels 5-12 (MusicLM §3.2).

`python -m musiclm_jax.train --config=configs/fine.py:tiny --tokens=DIR
--workdir=DIR`

`paper` is 24 layers, 453.0 M parameters, 3 s crops of 1,812 tokens. The `tiny`
crop is 1.6 s: 40 whole semantic and 80 whole acoustic frames.
"""

from ml_collections import ConfigDict

SIZES = {
  'tiny': {
    'codebooks': {'mulan': 32, 'semantic': 256, 'acoustic': 256},
    'crop_seconds': 1.6,
    'batch_size': 4,
    'steps': 700,
    'evaluate_every': 175,
    'optimizer': 'muon',
    'learning_rate': 5e-3,
    'warmup_steps': 20,
    'schedule': 'cosine',
    'model': {
      'num_layers': 2,
      'embed_dim': 128,
      'num_heads': 2,
      'head_dim': 64,
      'mlp_dim': 512,
      'dropout_rate': 0.0,
      'time_buckets': 32,
      'time_peak': 5.0,
      'relative_gain': 10.0,
      'relative_max_distance': 972,
      'scan_unroll': 2,
    },
  },
  'small': {
    'codebooks': {'mulan': 128, 'semantic': 1024, 'acoustic': 512},
    'crop_seconds': 3.0,
    'batch_size': 64,
    'steps': 20_000,
    'evaluate_every': 1_000,
    'optimizer': 'adamw',
    'learning_rate': 1e-3,
    'warmup_steps': 500,
    'schedule': 'cosine',
    'model': {
      'num_layers': 6,
      'embed_dim': 384,
      'num_heads': 6,
      'head_dim': 64,
      'mlp_dim': 1024,
      'dropout_rate': 0.1,
      'time_buckets': 32,
      'time_peak': 5.0,
      'relative_max_distance': 1812,
      'dtype': 'bfloat16',
      'scan_unroll': 6,
      'attention_kernel': 'cudnn',
      'remat': 'elementwise',
    },
  },
  'paper': {
    'codebooks': {'mulan': 1024, 'semantic': 1024, 'acoustic': 1024},
    'crop_seconds': 3.0,
    'batch_size': 1024,
    'steps': 1_000_000,
    'evaluate_every': 5_000,
    'optimizer': 'adamw',
    'learning_rate': 3e-4,
    'warmup_steps': 10_000,
    'schedule': 'inverse_sqrt',
    'model': {
      'num_layers': 24,
      'embed_dim': 1024,
      'num_heads': 16,
      'head_dim': 64,
      'mlp_dim': 4096,
      'dropout_rate': 0.1,
      'relative_max_distance': 1812,
      'dtype': 'bfloat16',
      'remat': 'full',
    },
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
  strict = size == 'paper'
  return ConfigDict(
    {
      'stage': 'fine',
      'seed': 0,
      'model': {
        'relative_buckets': 128,
        'relative_gain': 1.0,
        'time_buckets': 0,
        'time_peak': 0.0,
        'embedding_scale': 1.0,
        'attention_kernel': 'blockwise',
        'scan_unroll': 1,
        'dtype': 'float32',
        'remat': 'none',
        **chosen['model'],
      },
      'layout': {
        'mulan_levels': 12,
        'mulan_codebook_size': chosen['codebooks']['mulan'],
        'semantic_codebook_size': chosen['codebooks']['semantic'],
        'semantic_frame_rate': 25.0,
        'acoustic_levels': 12,
        'acoustic_codebook_size': chosen['codebooks']['acoustic'],
        'acoustic_frame_rate': 50.0,
        'coarse_levels': 4,
      },
      'loss': {
        'all_levels_probability': 1.0 if strict else 0.5,
        'no_levels_probability': 0.0 if strict else 0.1,
      },
      'optimizer': {
        'lm': {
          'name': chosen['optimizer'],
          'schedule': chosen['schedule'],
          'learning_rate': chosen['learning_rate'],
          'warmup_steps': chosen['warmup_steps'],
          'b1': 0.9,
          'b2': 0.95,
          'weight_decay': 0.01,
          'clip_norm': 1.0,
        }
      },
      'schedule': {
        'total_steps': chosen['steps'],
        'log_every': max(1, chosen['steps'] // 1000) if strict else 10,
        'eval_every': chosen['evaluate_every'],
        'save_every': chosen['evaluate_every'],
        'keep_every': 100_000 if strict else 0,
        'keep_best': '' if size == 'tiny' else 'lowest eval_nll',
      },
      'data': {
        'batch_size': chosen['batch_size'],
        'crop_seconds': chosen['crop_seconds'],
        'other_window_probability': 0.0 if strict else 0.5,
        'eval_batches': 8,
      },
      'training': {'accumulation': 1, 'ema_decay': 0.0},
      # Parameters over all devices: fsdp=0 takes what tensor leaves.
      'mesh': {'fsdp': 0 if strict else 1, 'tensor': 1},
    }
  )
