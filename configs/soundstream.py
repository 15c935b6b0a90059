"""SoundStream: a causal codec, 24 kHz to 50 frames of 12 codes a second.

    python -m musiclm_jax.train --config=configs/soundstream.py:tiny \
      --workdir=DIR

tiny: 2 CPU cores, minutes; shows learning, does not sound like music.
small: one GPU or a free Colab TPU. Departs from the papers: 8 levels, since
levels 9-12 bought 0.1 dB of log-mel distance for a third of the tokens
(experiments/codec_quality), and a loss that sees harmonics.
paper: the numbers of SoundStream (2107.03312) in MusicLM's variant: 9.84 M
parameters, strides (3, 4, 5, 8).
A codec that takes noise out where it is told to:
--config.model.denoises=True --config.data.noise_probability=0.5.
"""

from ml_collections import ConfigDict

from musiclm_jax.configs.base import sections

# `losses.FINE_SCALES`, and bins at linear frequencies: the paper's 64 mels take
# noise of the right envelope for harmonics.
_HARMONICS = {
  'mel_scales': tuple((2**i, 5 * 2 ** (i - 5)) for i in range(5, 12)),
  'mel_log_only': True,
  'log_stft_weight': 1.0,
}
SIZES = {
  'tiny': {
    'model': {'channels': 8, 'codebook_size': 256, 'gain': 10.0},
    'discriminators': {
      'wave_channels': 2,
      'wave_max_channels': 128,
      'stft_channels': 4,
    },
    'loss': {
      'waveform_weight': 5.0,
      'codebook_decay': 0.95,
      'adversarial_start': 0.9,
      'adversarial_warmup': 0.05,
      'feature_weight': 10.0,
    },
    'optimizer': {
      'codec': {'name': 'muon', 'learning_rate': 5e-3, 'warmup_steps': 20},
      'discriminators': {'warmup_steps': 20},
    },
    'schedule': {'total_steps': 2_000, 'log_every': 20, 'eval_every': 200},
    'data': {
      'source': sections.TINY_CORPUS,
      'batch_size': 8,
      'crop_seconds': 0.5,
      'eval_batches': 4,
    },
  },
  'small': {
    'model': {
      'channels': 24,
      'num_quantizers': 8,
      'codebook_size': 512,
      'gain': 10.0,
      'dtype': 'bfloat16',
    },
    'discriminators': {
      'wave_channels': 8,
      'wave_max_channels': 512,
      'stft_channels': 16,
      'stft_windows': (512, 1024, 2048),
      'dtype': 'bfloat16',
    },
    'loss': {
      **_HARMONICS,
      'waveform_weight': 1.0,
      'waveform_until_adversarial': True,
      'adversarial_start': 0.4,
      'adversarial_warmup': 0.05,
      'relative_features': True,
      'feature_weight': 2.0,
    },
    'optimizer': {'codec': {'learning_rate': 3e-4}},
    'schedule': {'total_steps': 40_000, 'log_every': 50, 'eval_every': 1000},
    'data': {'source': sections.SMALL_CORPUS, 'batch_size': 48},
    'training': {'ema_decay': 0.999},
  },
  'paper': {
    'model': {'channels': 32, 'codebook_size': 1024, 'dtype': 'bfloat16'},
    'discriminators': {
      'wave_channels': 16,
      'wave_max_channels': 1024,
      'stft_channels': 32,
      'dtype': 'bfloat16',
    },
    'optimizer': {'codec': {'schedule': 'constant', 'learning_rate': 2e-4}},
    'schedule': {
      'total_steps': 1_000_000,
      'log_every': 100,
      'eval_every': 5000,
      'keep_every': 100_000,
    },
    'data': {'source': 'audio_folder:data/fma', 'batch_size': 128},
    'training': {'ema_decay': 0.9999},
  },
}
_ADAM = {**sections.PLAYER, 'warmup_steps': 0, 'b1': 0.5, 'b2': 0.9}
# Distances are smallest before the adversaries, the sound is not best: of its
# checkpoints none is kept as the best one.
_EVERY = {
  'model': {
    'latent_dim': 128,
    'strides': (3, 4, 5, 8),
    'num_quantizers': 12,
    'gain': 1.0,
    'denoises': False,
    'dtype': 'float32',
  },
  'discriminators': {
    'num_scales': 3,
    'stft_windows': (1024,),
    'dtype': 'float32',
  },
  'loss': {
    'reconstruction_weight': 1.0,
    'mel_scales': tuple((2**i, 64) for i in range(6, 12)),
    'mel_log_only': False,
    'log_stft_weight': 0.0,
    'waveform_weight': 0.0,
    'waveform_until_adversarial': False,
    'adversarial_weight': 1.0,
    'feature_weight': 100.0,
    'relative_features': False,
    'commitment_weight': 0.25,
    'adversarial_start': 0.0,
    'adversarial_warmup': 0.0,
    'quantizer_dropout': 0.5,
    'codebook_decay': 0.99,
    'frozen_codes': False,
    'dead_threshold': 2.0,
    'kmeans_iterations': 10,
  },
  'optimizer': {
    'codec': _ADAM,
    'discriminators': {
      **_ADAM,
      'schedule': 'constant',
      'learning_rate': 2e-4,
    },
  },
  'data': {'crop_seconds': 1.0, 'noise_probability': 0.0, 'eval_batches': 8},
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If there is no such size.
  """
  own = sections.of_size(SIZES, size)
  return sections.make_config('soundstream', _EVERY, own)
