"""MuLan, the joint embedding of music and text (Huang et al. 2022).

`python -m musiclm_jax.train --config=configs/mulan.py:tiny --workdir=DIR`

The other audio tower: `--config.model.audio_tower=ast` wants its own section
`audio` and 128 mels, hence its own size: `--config=configs/mulan.py:paper_ast`.

`--init_text=FOLDER` starts the text tower from a published uncased BERT
(model.safetensors, vocab.txt, config.json), whose sizes `--config.model.text.…`
must have; the run says which keys to set. `:tiny_minilm` has those of
all-MiniLM-L6-v2. `--config.optimizer.mulan.adam_rates.text_tower=1e-4` moves
the text tower by Adam at a rate of its own.
"""

from ml_collections import ConfigDict, config_dict

_MEL_64 = {
  'num_mels': 64,
  'window_length': 400,
  'hop_length': 160,
  'fft_size': 512,
  'low_hz': 60.0,
  'high_hz': 7600.0,
}

# 40 ms from frame to frame quarter the cost; a longer window keeps pitches.
_TINY_MODEL = {
  **_MEL_64,
  'window_length': 800,
  'hop_length': 640,
  'fft_size': 1024,
  'norm_features': True,
  'frame_mask': 0.0,
  'band_mask': 0.0,
}

SIZES = {
  'tiny': {
    'audio_tower': 'resnet',
    'audio': {'width': 16, 'stage_blocks': (1, 1, 1, 1)},
    'model': _TINY_MODEL,
    'text': {
      'vocab_size': 4096,
      'max_length': 40,
      'num_layers': 2,
      'embed_dim': 128,
      'num_heads': 2,
      'mlp_dim': 512,
      'pooling': 'mean',
    },
    'batch_size': 64,
    'captions_per_crop': 4,
    'optimizer': 'muon',
    'steps': 320,
    'evaluate_every': 80,
    'log_every': 5,
    'learning_rate': 4e-3,
    'warmup_steps': 10,
    'source': 'rendered_music:runs/demo/corpus',
  },
  'small': {
    'audio_tower': 'resnet',
    'audio': {'width': 32, 'dtype': 'bfloat16'},
    'model': _MEL_64,
    'text': {
      'vocab_size': 4096,
      'max_length': 128,
      'num_layers': 4,
      'embed_dim': 256,
      'num_heads': 4,
      'mlp_dim': 1024,
      'dropout_rate': 0.1,
      'dtype': 'bfloat16',
      'scan_unroll': 4,
    },
    'batch_size': 512,
    'captions_per_crop': 1,
    'optimizer': 'adam',
    'steps': 20_000,
    'evaluate_every': 500,
    'log_every': 20,
    'learning_rate': 5e-4,
    'warmup_steps': 500,
    'source': 'rendered_music:runs/small/corpus',
  },
  # 14 epochs of 44 million clips.
  'paper': {
    'audio_tower': 'resnet',
    'audio': {'width': 64, 'dtype': 'bfloat16'},
    'model': _MEL_64,
    'text': {'dropout_rate': 0.1, 'dtype': 'bfloat16', 'remat': 'full'},
    'batch_size': 6144,
    'captions_per_crop': 1,
    'optimizer': 'adam',
    'steps': 100_000,
    'evaluate_every': 1_000,
    'log_every': 50,
    'learning_rate': 1e-4,
    'warmup_steps': 5_000,
    'source': 'audio_folder:data/music',
  },
  'paper_ast': {
    'audio_tower': 'ast',
    'audio': {'dtype': 'bfloat16', 'remat': 'full'},
    'model': {**_MEL_64, 'num_mels': 128, 'fft_size': 1024},
    'text': {'dropout_rate': 0.1, 'dtype': 'bfloat16', 'remat': 'full'},
    'batch_size': 5120,
    'captions_per_crop': 1,
    'optimizer': 'adam',
    'steps': 120_000,
    'evaluate_every': 1_000,
    'log_every': 50,
    'learning_rate': 5e-5,
    'warmup_steps': 5_000,
    'source': 'audio_folder:data/music',
  },
  # The text tower of all-MiniLM-L6-v2, for --init_text; its layers cost too
  # much for Muon and for four captions a crop.
  'tiny_minilm': {
    'audio_tower': 'resnet',
    'audio': {'width': 16, 'stage_blocks': (1, 1, 1, 1)},
    'model': _TINY_MODEL,
    'text': {
      'max_length': 512,
      'num_layers': 6,
      'embed_dim': 384,
      'num_heads': 12,
      'mlp_dim': 1536,
      'pooling': 'mean',
    },
    'text_length': 20,
    'batch_size': 32,
    'captions_per_crop': 1,
    'optimizer': 'muon',
    'text_rate': 3e-4,
    'steps': 120,
    'evaluate_every': 120,
    'log_every': 10,
    'learning_rate': 4e-3,
    'warmup_steps': 20,
    'source': 'rendered_music:runs/demo/corpus',
  },
}
_BERT_BASE = {
  'vocab_size': 30522,
  'max_length': 512,
  'num_layers': 12,
  'embed_dim': 768,
  'num_heads': 12,
  'mlp_dim': 3072,
  'dropout_rate': 0.0,
  'pooling': 'cls',
  'dtype': 'float32',
  'remat': 'none',
  'scan_unroll': 1,
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  if size not in SIZES:
    raise ValueError(f"unknown size '{size}': choose one of {', '.join(SIZES)}")
  chosen = SIZES[size]
  text = {**_BERT_BASE, **chosen['text']}
  text_rate = config_dict.placeholder(float)  # that of all the rest
  text_rate = chosen.get('text_rate', text_rate)
  return ConfigDict(
    {
      'stage': 'mulan',
      'seed': 0,
      'model': {
        'audio_tower': chosen['audio_tower'],
        'audio': chosen['audio'],
        'text': text,
        'embed_dim': 128,
        'initial_temperature': 0.1,
        # SpecAugment as for AudioSet in the paper of AST; MuLan's is unknown.
        'frame_mask': 0.2,
        'band_mask': 0.375,
        'norm_features': False,
        **chosen['model'],
      },
      'loss': {'window_seconds': 10.0, 'window_hop_seconds': 1.0},
      'optimizer': {
        'mulan': {
          'name': chosen['optimizer'],
          'schedule': 'cosine',
          'learning_rate': chosen['learning_rate'],
          'warmup_steps': chosen['warmup_steps'],
          'b1': 0.9,
          'b2': 0.98,
          'weight_decay': 0.0,
          'clip_norm': 1.0,
          'adam_rates': {'text_tower': text_rate},
        }
      },
      'schedule': {
        'total_steps': chosen['steps'],
        'log_every': chosen['log_every'],
        'eval_every': chosen['evaluate_every'],
        'save_every': chosen['evaluate_every'],
        'keep_every': 10_000 if size.startswith('paper') else 0,
        'keep_best': '' if size.startswith('tiny') else 'lowest eval_loss',
      },
      'data': {
        'source': chosen['source'],
        'batch_size': chosen['batch_size'],
        'crop_seconds': 10.0,
        'text_length': chosen.get('text_length', text['max_length']),
        'captions_per_crop': chosen['captions_per_crop'],
        'vocabulary_size': text['vocab_size'],
        'eval_batches': 2,
      },
      'training': {'accumulation': 1, 'ema_decay': 0.0},
      'mesh': {'fsdp': 1, 'tensor': 1},
    }
  )
