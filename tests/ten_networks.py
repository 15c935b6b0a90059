"""The ten networks of the paper configs, at sizes that compile in seconds.

And the parallel LM, which takes the place of two of them.

Their sections are the paper's, widths and lengths are not: dropout and masks
are on, the optimizers are the paper's without their long warm-up.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

CONFIGS = Path(__file__).parents[1] / 'configs'
BATCH_SIZE = 8
FITS = {'kmeans', 'mulan_rvq', 'melody_rvq'}  # they own no parameters

_TRANSFORMER = {
  'num_layers': 2,
  'embed_dim': 32,
  'num_heads': 4,
  'head_dim': 8,
  'mlp_dim': 64,
  'dtype': 'float32',
}
_LM = {
  'layout': {
    'mulan_codebook_size': 8,
    'semantic_codebook_size': 16,
    'acoustic_codebook_size': 16,
  },
  'model': {
    **_TRANSFORMER,
    'relative_buckets': 16,
    'relative_max_distance': 96,
  },
  'data': {'crop_seconds': 0.2},
}
# Four codes: the two quantizers want batches of twice as many embeddings.
_RVQ = {
  'model': {'codebook_size': 4, 'num_levels': 3},
  'loss': {'statistics_steps': 1, 'pieces_per_code': 1},
}
SMALL: dict[str, dict[str, Any]] = {
  'soundstream': {
    'model': {
      'channels': 8,
      'latent_dim': 16,
      'strides': (4, 4),
      'num_quantizers': 3,
      'codebook_size': 16,
      'dtype': 'float32',
    },
    'discriminators': {
      'num_scales': 2,
      'wave_channels': 8,
      'wave_max_channels': 32,
      'stft_channels': 8,
      'dtype': 'float32',
    },
    'loss': {'kmeans_iterations': 3},
    'data': {'crop_seconds': 0.064},
  },
  'w2v_bert': {
    'model': {
      'embed_dim': 32,
      'num_heads': 4,
      'mlp_dim': 64,
      'contrastive_blocks': 1,
      'masked_blocks': 2,
      'codebook_size': 16,
      'code_dim': 16,
      'conv_channels': (8, 8),
      'dtype': 'float32',
    },
    'loss': {'mask_span': 4, 'num_distractors': 10, 'contrastive_only': 0.0},
    'data': {'crop_seconds': 0.8},
  },
  'kmeans': {
    'model': {'codebook_size': 8},
    'loss': {
      'statistics_steps': 1,
      'lloyd_iterations': 4,
      'frames_per_centroid': 1,
    },
    'data': {'crop_seconds': 0.4},
  },
  'mulan': {
    'model': {
      'audio': {'width': 8, 'stage_blocks': (1, 1), 'dtype': 'float32'},
      'text': {
        'vocab_size': 64,
        'max_length': 8,
        'num_layers': 2,
        'embed_dim': 32,
        'num_heads': 4,
        'mlp_dim': 64,
        'dtype': 'float32',
      },
      'embed_dim': 16,
      'num_mels': 32,
    },
    'loss': {'window_seconds': 0.5},
    'data': {'crop_seconds': 0.5, 'text_length': 8, 'vocabulary_size': 64},
  },
  'mulan_rvq': _RVQ,
  'melody': {
    'model': {
      **_TRANSFORMER,
      'output_dim': 16,
      'num_mels': 32,
      'dropout_rate': 0.1,
    },
    'loss': {'window_seconds': 0.4},
    'data': {'crop_seconds': 0.4},
  },
  'melody_rvq': _RVQ,
  'semantic': _LM,
  'coarse': _LM,
  'fine': _LM,
  'parallel': _LM,
}


def paper_config(stage: str) -> ConfigDict:
  """Reads a stage's config at paper size."""
  namespace: dict[str, Any] = {}
  exec((CONFIGS / f'{stage}.py').read_text(), namespace)
  return namespace['get_config']('paper')


def small_config(stage: str, total_steps: int) -> ConfigDict:
  """Reads a stage's config at paper size and shrinks it."""
  config = paper_config(stage).unlock()
  config.update(SMALL[stage])
  config.data.batch_size = BATCH_SIZE
  config.schedule.total_steps = total_steps
  for player in config.optimizer.values():
    player.warmup_steps = 1
  return config.lock()


def shapes(config: ConfigDict) -> dict[str, tuple[tuple[int, ...], str]]:
  """Describes a global batch: name -> (shape, kind of its values)."""
  rows, seconds = config.data.batch_size, config.data.get('crop_seconds', 0.0)
  samples, frames = round(24_000 * seconds), round(25 * seconds)
  wave = (rows, samples), 'waveform'
  group = (rows,), 'group'
  match config.stage:
    case 'soundstream' | 'w2v_bert':
      return {'waveform': wave}
    case 'kmeans':
      return {'features': ((rows, frames, 32), 'normal')}
    case 'mulan':
      text = rows, config.data.captions_per_crop, config.data.text_length
      return {'waveform': wave, 'text_ids': (text, 'text'), 'group': group}
    case 'mulan_rvq':
      return {name: ((rows, 16), 'normal') for name in ('audio', 'text')}
    case 'melody':
      takes = (rows, 2, samples), 'waveform'
      return {'waveform': takes, 'group': group}
    case 'melody_rvq':
      return {'audio': ((rows, 16), 'normal')}
  return {
    'mulan': ((rows, 12), 'mulan_codebook_size'),
    'semantic': ((rows, frames), 'semantic_codebook_size'),
    'acoustic': ((rows, 2 * frames, 12), 'acoustic_codebook_size'),
  }


def abstract_batch(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
  """Describes a batch without making one."""
  return {
    name: jax.ShapeDtypeStruct(
      shape, np.float32 if kind in ('waveform', 'normal') else np.int32
    )
    for name, (shape, kind) in shapes(config).items()
  }


def batch(config: ConfigDict, step: int) -> dict[str, np.ndarray]:
  """Makes global batch `step`."""
  rng = np.random.default_rng((7, step))

  def values(shape: tuple[int, ...], kind: str) -> np.ndarray:
    match kind:
      case 'waveform':
        time = np.arange(shape[-1]) / 24_000
        hertz = 110 * 2 ** rng.uniform(0, 4, (*shape[:-1], 1))
        noise = 0.05 * rng.normal(size=shape)
        return (0.3 * np.sin(2 * np.pi * hertz * time) + noise).astype('f')
      case 'normal':
        return rng.normal(size=shape).astype('f')
      case 'group':
        return np.arange(shape[0], dtype=np.int32)
      case 'text':
        ids = rng.integers(1, config.data.vocabulary_size, shape)
        lengths = rng.integers(2, shape[-1] + 1, shape[:-1])[..., None]
        return np.where(np.arange(shape[-1]) < lengths, ids, 0).astype(np.int32)
    return rng.integers(0, config.layout[kind], shape).astype(np.int32)

  return {name: values(*given) for name, given in shapes(config).items()}
