"""The quantizer of MuLan tokens (MusicLM §3.1).

`python -m musiclm_jax.train --config=configs/mulan_rvq.py:tiny --network=DIR
--workdir=DIR`, DIR being the workdir of a trained MuLan.

A level wants 20 distinct training pieces a code; crops are as long as those
of the semantic LM.
"""

from ml_collections import ConfigDict

SIZES = {
  'tiny': {
    'codebook_size': 32,
    'statistics_steps': 6,
    'steps': 26,
    'evaluate_every': 13,
    'batch_size': 128,
    'crop_seconds': 10.0,
    'source': 'rendered_music:runs/demo/corpus',
  },
  'small': {
    'codebook_size': 128,
    'statistics_steps': 20,
    'steps': 200,
    'evaluate_every': 50,
    'batch_size': 512,
    'crop_seconds': 10.0,
    'source': 'rendered_music:runs/small/corpus',
  },
  'paper': {
    'codebook_size': 1024,
    'statistics_steps': 100,
    'steps': 2_000,
    'evaluate_every': 500,
    'batch_size': 8192,
    'crop_seconds': 30.0,
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
      'stage': 'mulan_rvq',
      'seed': 0,
      'model': {'num_levels': 12, 'codebook_size': chosen['codebook_size']},
      'loss': {
        'statistics_steps': chosen['statistics_steps'],
        'decay': 0.9,
        'dead_threshold': 1.0,
        'kmeans_iterations': 20,
        'pieces_per_code': 20,
      },
      # The player owns no parameters: nothing that follows moves anything.
      'optimizer': {
        'mulan_rvq': {
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
        'eval_batches': 2,
      },
      'training': {'accumulation': 1, 'ema_decay': 0.0},
      'mesh': {'fsdp': 1, 'tensor': 1},
    }
  )
