"""The semantic codebook: k-means on w2v-BERT features (AudioLM §4.1).

`python -m musiclm_jax.train --config=configs/kmeans.py:tiny --network=DIR
--workdir=DIR`, DIR being the workdir of a trained w2v-BERT of the same size.

Crops are as long as those of the semantic LM: features see their neighbours.
"""

from ml_collections import ConfigDict

SIZES = {
  'tiny': {
    'codebook_size': 256,
    'statistics_steps': 8,
    'steps': 40,
    'evaluate_every': 20,
    'batch_size': 16,
    'crop_seconds': 10.0,
    'source': 'rendered_music:runs/demo/corpus',
  },
  'small': {
    'codebook_size': 1024,
    'statistics_steps': 50,
    'steps': 500,
    'evaluate_every': 100,
    'batch_size': 64,
    'crop_seconds': 10.0,
    'source': 'rendered_music:runs/small/corpus',
  },
  'paper': {
    'codebook_size': 1024,
    'statistics_steps': 500,
    'steps': 5_000,
    'evaluate_every': 500,
    'batch_size': 256,
    'crop_seconds': 30.0,
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
      'stage': 'kmeans',
      'seed': 0,
      'model': {'codebook_size': chosen['codebook_size']},
      'loss': {
        'statistics_steps': chosen['statistics_steps'],
        'lloyd_iterations': 20,
        'decay': 0.95,
        'dead_share': 0.05,
        'frames_per_centroid': 100,
      },
      # The player owns no parameters: nothing that follows moves anything.
      'optimizer': {
        'kmeans': {
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
        'crop_seconds': chosen['crop_seconds'],
        'eval_batches': 4,
      },
      'training': {'accumulation': 1, 'ema_decay': 0.0},
      'mesh': {'fsdp': 1, 'tensor': 1},
    }
  )
