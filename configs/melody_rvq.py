"""The quantizer of melody tokens (MusicLM App. C).

`python -m musiclm_jax.train --config=configs/melody_rvq.py:tiny --network=DIR
--workdir=DIR`, DIR being the workdir of a trained melody network.

It hears the corpus that the LMs learn from, no composed tunes. A level wants 20
distinct training pieces a code; a crop is one window of the melody network, a
longer one is several.
"""

from ml_collections import ConfigDict

SIZES = {
  'tiny': {
    'num_levels': 8,
    'codebook_size': 32,
    'statistics_steps': 6,
    'steps': 26,
    'evaluate_every': 13,
    'batch_size': 128,
    'source': 'rendered_music:runs/demo/corpus',
  },
  'small': {
    'num_levels': 24,
    'codebook_size': 128,
    'statistics_steps': 20,
    'steps': 200,
    'evaluate_every': 50,
    'batch_size': 512,
    'source': 'rendered_music:runs/small/corpus',
  },
  'paper': {
    'num_levels': 24,
    'codebook_size': 512,
    'statistics_steps': 100,
    'steps': 2_000,
    'evaluate_every': 500,
    'batch_size': 8192,
    'source': 'audio_folder:data/music',
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
      'stage': 'melody_rvq',
      'seed': 0,
      'model': {
        'num_levels': chosen['num_levels'],
        'codebook_size': chosen['codebook_size'],
      },
      'loss': {
        'statistics_steps': chosen['statistics_steps'],
        'decay': 0.9,
        'dead_threshold': 1.0,
        'kmeans_iterations': 20,
        'pieces_per_code': 20,
      },
      # The player owns no parameters: nothing that follows moves anything.
      'optimizer': {
        'melody_rvq': {
          'name': 'adam',
          'schedule': 'constant',
          'learning_rate': 0.0,
          'warmup_steps': 0,
          'b1': 0.9,
          'b2': 0.99,
          'weight_decay': 0.0,
          'clip_norm': 0.0,
        }
      },
      'schedule': {
        'total_steps': chosen['steps'],
        'log_every': 1,
        'eval_every': chosen['evaluate_every'],
        'save_every': chosen['evaluate_every'],
        'keep_every': 0,
        'keep_best': '',
      },
      'data': {
        'source': chosen['source'],
        'batch_size': chosen['batch_size'],
        'crop_seconds': 4.0,
        'eval_batches': 2,
      },
      'training': {'accumulation': 1, 'ema_decay': 0.0},
      'mesh': {'fsdp': 1, 'tensor': 1},
    }
  )
