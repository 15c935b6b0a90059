"""What models of tokens share: the network, its layout and its losses.

Optimizer, batch and steps are AudioLM's or ours where MusicLM is silent.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from musiclm_jax.configs.base import sections

_EVERY = {
  'model': {
    'dropout_rate': 0.1,
    'relative_buckets': 128,
    'relative_gain': 1.0,
    'embedding_scale': 1.0,
    'attention_kernel': 'blockwise',
    'scan_unroll': 1,
    'dtype': 'float32',
    'remat': 'none',
  },
  'layout': {
    'mulan_levels': 12,
    'semantic_frame_rate': 25.0,
    'acoustic_levels': 12,
    'acoustic_frame_rate': 50.0,
    'coarse_levels': 4,
  },
  'loss': {
    'all_levels_probability': 0.5,
    'no_levels_probability': 0.1,
    'wrong_level_probability': 0.0,
  },
  'optimizer': {'lm': {**sections.PLAYER, 'b2': 0.95, 'weight_decay': 0.01}},
  'data': {'other_window_probability': 0.5, 'eval_batches': 8},
}
_SIZES = {
  'tiny': {
    'model': {
      'num_layers': 2,
      'embed_dim': 128,
      'num_heads': 2,
      'head_dim': 64,
      'mlp_dim': 512,
      'dropout_rate': 0.0,
      'relative_gain': 10.0,
      'scan_unroll': 2,
    },
    'layout': {
      'mulan_codebook_size': 32,
      'semantic_codebook_size': 256,
      'acoustic_codebook_size': 256,
    },
    'optimizer': {
      'lm': {'name': 'muon', 'learning_rate': 5e-3, 'warmup_steps': 20}
    },
  },
  'small': {
    'model': {
      'num_layers': 6,
      'embed_dim': 384,
      'num_heads': 6,
      'head_dim': 64,
      'mlp_dim': 1024,
      'dtype': 'bfloat16',
      'scan_unroll': 6,
      'attention_kernel': 'cudnn',
      'remat': 'elementwise',
    },
    'layout': {
      'mulan_codebook_size': 128,
      'acoustic_levels': 8,
      'semantic_codebook_size': 1024,
      'acoustic_codebook_size': 512,
    },
    'optimizer': {
      'lm': {'name': 'adamw', 'learning_rate': 1e-3, 'warmup_steps': 500}
    },
    'schedule': {
      'total_steps': 20_000,
      'eval_every': 1_000,
      'keep_best': 'lowest eval_nll',
    },
    'data': {'batch_size': 64},
  },
  'paper': {
    'model': {
      'num_layers': 24,
      'embed_dim': 1024,
      'num_heads': 16,
      'head_dim': 64,
      'mlp_dim': 4096,
      'dtype': 'bfloat16',
      'remat': 'full',
    },
    'layout': {
      'mulan_codebook_size': 1024,
      'semantic_codebook_size': 1024,
      'acoustic_codebook_size': 1024,
    },
    'loss': {'all_levels_probability': 1.0, 'no_levels_probability': 0.0},
    'optimizer': {
      'lm': {
        'name': 'adamw',
        'schedule': 'inverse_sqrt',
        'learning_rate': 3e-4,
        'warmup_steps': 10_000,
      }
    },
    'schedule': {
      'total_steps': 1_000_000,
      'log_every': 1_000,
      'eval_every': 5_000,
      'keep_every': 100_000,
      'keep_best': 'lowest eval_nll',
    },
    'data': {'batch_size': 1024, 'other_window_probability': 0.0},
    'mesh': {'fsdp': 0},
  },
}
# Of what reads one token after another.
_CAUSAL = {'model': {'time_buckets': 0, 'time_peak': 0.0}}
# Levels of the melody's RVQ, entries per level, share of examples without.
_MELODY = {
  'tiny': (8, 32, 0.25),
  'small': (24, 128, 0.25),
  'paper': (24, 512, 0.0),
}

# Share of examples without semantic tokens, that guidance can push towards.
_WITHOUT_SEMANTIC = {'tiny': 0.0, 'small': 0.1, 'paper': 0.0}


def make_config(
  stage: str,
  sizes: Mapping[str, Any],
  size: str,
  *,
  melody: bool,
  semantic: bool = False,
  causal: bool = True,
) -> ConfigDict:
  """Makes the config of one of the three LMs, or of the parallel one.

  Args:
    stage: `semantic`, `coarse`, `fine` or `parallel`.
    sizes: Size -> what this LM has of its own, laid over what all have.
    size: Of `sizes`.
    melody: Whether it can be conditioned on a melody.
    semantic: Whether semantic tokens condition it, and can be left out.
    causal: Whether it reads one token after another.

  Raises:
    ValueError: If there is no such size.
  """
  own = sections.of_size(sizes, size)
  # None is the length of the layout, so that distances span all of it.
  distance = {'model': {'relative_max_distance': config_dict.placeholder(int)}}
  conditioning = _melody(*_MELODY[size]) if melody else {}
  ablation = _semantic(_WITHOUT_SEMANTIC[size]) if semantic else {}
  order = _CAUSAL if causal else {}
  return sections.make_config(
    stage, _EVERY, order, distance, _SIZES[size], conditioning, ablation, own
  )


def _semantic(without: float) -> dict[str, Any]:
  """The keys of semantic tokens that condition."""
  return {
    'layout': {'semantic': True},
    'loss': {'no_semantic_probability': without},
  }


def _melody(levels: int, codebook_size: int, without: float) -> dict[str, Any]:
  """The keys of a melody, which `layout.melody` switches on."""
  return {
    'layout': {
      'melody': False,
      'melody_levels': levels,
      'melody_codebook_size': codebook_size,
      'melody_window_seconds': 4.0,
      'melody_hop_seconds': 3.0,
    },
    'loss': {'no_melody_probability': without},
  }
