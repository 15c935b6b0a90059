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

from musiclm_jax.configs.base import sections

# 40 ms from frame to frame quarter the cost; a longer window keeps pitches.
_TINY = {
  'audio': {'width': 16, 'stage_blocks': (1, 1, 1, 1)},
  'window_length': 800,
  'hop_length': 640,
  'fft_size': 1024,
  'norm_features': True,
  'frame_mask': 0.0,
  'band_mask': 0.0,
}
_PAPER_TEXT = {'dropout_rate': 0.1, 'dtype': 'bfloat16', 'remat': 'full'}

SIZES = {
  'tiny': {
    'model': {
      **_TINY,
      'text': {
        'vocab_size': 4096,
        'max_length': 40,
        'num_layers': 2,
        'embed_dim': 128,
        'num_heads': 2,
        'mlp_dim': 512,
        'pooling': 'mean',
      },
    },
    'optimizer': {
      'mulan': {'name': 'muon', 'learning_rate': 4e-3, 'warmup_steps': 10}
    },
    'schedule': {'total_steps': 320, 'log_every': 5, 'eval_every': 80},
    'data': {
      'source': sections.TINY_CORPUS,
      'batch_size': 64,
      'captions_per_crop': 4,
    },
  },
  'small': {
    'model': {
      'audio': {'width': 32, 'dtype': 'bfloat16'},
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
    },
    'optimizer': {'mulan': {'learning_rate': 5e-4, 'warmup_steps': 500}},
    'schedule': {
      'total_steps': 20_000,
      'log_every': 20,
      'eval_every': 500,
      'keep_best': 'lowest eval_loss',
    },
    'data': {
      'source': sections.SMALL_CORPUS,
      'batch_size': 512,
      'mark_true_pairs': True,
    },
  },
  # 14 epochs of 44 million clips.
  'paper': {
    'model': {
      'audio': {'width': 64, 'dtype': 'bfloat16'},
      'text': _PAPER_TEXT,
    },
    'optimizer': {'mulan': {'learning_rate': 1e-4, 'warmup_steps': 5_000}},
    'schedule': {
      'total_steps': 100_000,
      'log_every': 50,
      'eval_every': 1_000,
      'keep_every': 10_000,
      'keep_best': 'lowest eval_loss',
    },
    'data': {'source': 'audio_folder:data/music', 'batch_size': 6144},
  },
  'paper_ast': {
    'model': {
      'audio_tower': 'ast',
      'audio': {'dtype': 'bfloat16', 'remat': 'full'},
      'text': _PAPER_TEXT,
      'num_mels': 128,
      'fft_size': 1024,
    },
    'optimizer': {'mulan': {'learning_rate': 5e-5, 'warmup_steps': 5_000}},
    'schedule': {
      'total_steps': 120_000,
      'log_every': 50,
      'eval_every': 1_000,
      'keep_every': 10_000,
      'keep_best': 'lowest eval_loss',
    },
    'data': {'source': 'audio_folder:data/music', 'batch_size': 5120},
  },
  # The text tower of all-MiniLM-L6-v2, for --init_text; its layers cost too
  # much for Muon and for four captions a crop.
  'tiny_minilm': {
    'model': {
      **_TINY,
      'text': {
        'num_layers': 6,
        'embed_dim': 384,
        'num_heads': 12,
        'mlp_dim': 1536,
        'pooling': 'mean',
      },
    },
    'optimizer': {
      'mulan': {
        'name': 'muon',
        'learning_rate': 4e-3,
        'warmup_steps': 20,
        'adam_rates': {'text_tower': 3e-4},
      }
    },
    'schedule': {'total_steps': 120, 'eval_every': 120},
    'data': {
      'source': sections.TINY_CORPUS,
      'batch_size': 32,
      'text_length': 20,
    },
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
_EVERY = {
  'model': {
    'audio_tower': 'resnet',
    'text': _BERT_BASE,
    'embed_dim': 128,
    'initial_temperature': 0.1,
    'num_mels': 64,
    'window_length': 400,
    'hop_length': 160,
    'fft_size': 512,
    'low_hz': 60.0,
    'high_hz': 7600.0,
    # SpecAugment as for AudioSet in the paper of AST; MuLan's is unknown.
    'frame_mask': 0.2,
    'band_mask': 0.375,
    'norm_features': False,
  },
  'loss': {'window_seconds': 10.0, 'window_hop_seconds': 1.0},
  'optimizer': {'mulan': {**sections.PLAYER, 'b2': 0.98}},
  'data': {
    'crop_seconds': 10.0,
    'captions_per_crop': 1,
    # Whether what is true of another crop is no negative of it; MuLan's all
    # are. Of 512 captions of composed music, about 13 are true of a crop.
    'mark_true_pairs': False,
    'eval_batches': 2,
  },
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  own = sections.of_size(SIZES, size)
  rate = config_dict.placeholder(float)  # that of all the rest
  rates = {'optimizer': {'mulan': {'adam_rates': {'text_tower': rate}}}}
  text = {**_BERT_BASE, **own['model']['text']}
  lengths = {
    'text_length': text['max_length'],
    'vocabulary_size': text['vocab_size'],
  }
  return sections.make_config('mulan', _EVERY, rates, {'data': lengths}, own)
