"""The melody embedding (MusicLM App. C).

`python -m musiclm_jax.train --config=configs/melody.py:tiny --workdir=DIR`

Melodies are composed and rendered as they are asked for: there is no corpus to
prepare. Leads in `unseen_leads` play in evaluation only, and there alone do
they play.

`tiny` and `small` compare pitches, so that a melody is the same in any key.
`--config.model.pitch_classes=True --config.model.high_hz=3133.4
--config.data.same_key=True` keeps its key instead, which language models of a
few million parameters follow more easily (`experiments/small/`).
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import sections

# Two bands a semitone, compared with earlier frames: transposition is
# not left to be learned, see experiments/query_by_humming.
_INTERVALS = {
  'low_hz': 80.0,
  'high_hz': 3200.0,
  'intervals': {'lag_seconds': (0.16, 0.4, 0.8), 'reach_semitones': 16.0},
  'segments': 10,
}
SIZES = {
  # 80 ms from frame to frame quarter the cost: half of a short note.
  'tiny': {
    'model': {
      **_INTERVALS,
      'num_layers': 3,
      'embed_dim': 128,
      'num_heads': 4,
      'head_dim': 32,
      'mlp_dim': 256,
      'window_length': 3072,
      'hop_length': 1920,
      'fft_size': 4096,
    },
    'optimizer': {
      'melody': {'name': 'muon', 'learning_rate': 4e-3, 'warmup_steps': 20}
    },
    'schedule': {'total_steps': 200, 'log_every': 5, 'eval_every': 50},
    'data': {'tunes': 100_000, 'batch_size': 32},
  },
  'small': {
    'model': {
      **_INTERVALS,
      'num_layers': 6,
      'embed_dim': 256,
      'num_heads': 4,
      'head_dim': 64,
      'mlp_dim': 512,
      'dtype': 'bfloat16',
      'scan_unroll': 6,
    },
    'optimizer': {'melody': {'learning_rate': 5e-4, 'warmup_steps': 500}},
    'schedule': {
      'total_steps': 20_000,
      'log_every': 20,
      'eval_every': 500,
      'keep_best': 'highest eval_recall_at_1',
    },
    'data': {'tunes': 1_000_000, 'batch_size': 256},
  },
  'paper': {
    'model': {
      'num_layers': 12,
      'embed_dim': 512,
      'num_heads': 6,
      'head_dim': 64,
      'mlp_dim': 1024,
      'dtype': 'bfloat16',
    },
    'optimizer': {'melody': {'learning_rate': 3e-4, 'warmup_steps': 2_000}},
    'schedule': {
      'total_steps': 100_000,
      'log_every': 50,
      'eval_every': 1_000,
      'keep_every': 10_000,
      'keep_best': 'highest eval_recall_at_1',
    },
    'data': {'tunes': 10_000_000, 'batch_size': 1024},
  },
}
# One of a family or two, such as sound unlike the rest of theirs.
_UNSEEN_LEADS = (
  'bright piano',
  'vibraphone',
  'church organ',
  'nylon guitar',
  'violin',
  'trumpet',
  'oboe',
  'flute',
  'choir',
)
_EVERY = {
  'model': {'output_dim': 192, 'num_mels': 128, 'pitch_classes': False},
  # FaceNet's margin; the paper's is unknown.
  'loss': {'margin': 0.2, 'window_seconds': 4.0, 'window_hop_seconds': 3.0},
  'optimizer': {'melody': {**sections.PLAYER, 'b2': 0.98}},
  'data': {
    'unseen_leads': _UNSEEN_LEADS,
    'voice_share': 0.25,
    'band_share': 0.5,
    'tempo_change': 0.2,
    'same_key': False,  # up to octaves
    'crop_seconds': 4.0,
    'eval_batches': 2,
  },
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  own = sections.of_size(SIZES, size)
  return sections.make_config('melody', _EVERY, own)
