"""SoundStream: a causal codec, 24 kHz to 50 frames of 12 codes a second.

    python -m musiclm_jax.train --config=configs/soundstream.py:tiny \
      --workdir=DIR

tiny: 2 CPU cores, minutes; shows learning, does not sound like music.
small: one GPU or a free Colab TPU. paper: the numbers of SoundStream
(2107.03312) in MusicLM's variant: 9.84 M parameters, strides (3, 4, 5, 8).
A codec that takes noise out where it is told to:
--config.model.denoises=True --config.data.noise_probability=0.5.
"""

from ml_collections import ConfigDict

SIZES = {
  'tiny': {
    'dtype': 'float32',
    'channels': 8,
    'latent_dim': 128,
    'codebook_size': 256,
    'gain': 10.0,
    'waveform_weight': 5.0,
    'codebook_decay': 0.95,
    'optimizer': 'muon',
    'judge': (2, 128, 4),
    'adversarial_start': 0.9,
    'feature_weight': 10.0,
    'adversarial_warmup': 0.05,
    'learning_rate': 5e-3,
    'warmup_steps': 20,
    'schedule': 'cosine',
    'total_steps': 2_000,
    'log_every': 20,
    'eval_every': 200,
    'save_every': 200,
    'keep_every': 0,
    'source': 'rendered_music:runs/demo/corpus',
    'batch_size': 8,
    'crop_seconds': 0.5,
    'eval_batches': 4,
    'ema_decay': 0.0,
  },
  'small': {
    'dtype': 'bfloat16',
    'channels': 24,
    'latent_dim': 128,
    'codebook_size': 512,
    'gain': 10.0,
    'waveform_weight': 1.0,
    'codebook_decay': 0.99,
    'optimizer': 'adam',
    'judge': (8, 512, 16),
    'adversarial_start': 0.4,
    'feature_weight': 100.0,
    'adversarial_warmup': 0.05,
    'learning_rate': 3e-4,
    'warmup_steps': 0,
    'schedule': 'cosine',
    'total_steps': 40_000,
    'log_every': 50,
    'eval_every': 1000,
    'save_every': 1000,
    'keep_every': 0,
    'source': 'rendered_music:runs/small/corpus',
    'batch_size': 48,
    'crop_seconds': 1.0,
    'eval_batches': 8,
    'ema_decay': 0.999,
  },
  'paper': {
    'dtype': 'bfloat16',
    'channels': 32,
    'latent_dim': 128,
    'codebook_size': 1024,
    'gain': 1.0,
    'waveform_weight': 0.0,
    'codebook_decay': 0.99,
    'optimizer': 'adam',
    'judge': (16, 1024, 32),
    'adversarial_start': 0.0,
    'feature_weight': 100.0,
    'adversarial_warmup': 0.0,
    'learning_rate': 2e-4,
    'warmup_steps': 0,
    'schedule': 'constant',
    'total_steps': 1_000_000,
    'log_every': 100,
    'eval_every': 5000,
    'save_every': 5000,
    'keep_every': 100_000,
    'source': 'audio_folder:data/fma',
    'batch_size': 128,
    'crop_seconds': 1.0,
    'eval_batches': 8,
    'ema_decay': 0.9999,
  },
}


def get_config(size: str = 'paper') -> ConfigDict:
  """Returns the configuration of one size.

  Raises:
    ValueError: If the size is unknown.
  """
  if size not in SIZES:
    raise ValueError(f"unknown size '{size}': choose one of tiny, small, paper")
  s = ConfigDict(SIZES[size])
  config = ConfigDict()
  config.stage = 'soundstream'
  config.seed = 0
  config.model = {
    'channels': s.channels,
    'latent_dim': s.latent_dim,
    'strides': (3, 4, 5, 8),
    'num_quantizers': 12,
    'codebook_size': s.codebook_size,
    'gain': s.gain,
    'denoises': False,
    'dtype': s.dtype,
  }
  wave_channels, wave_max_channels, stft_channels = s.judge
  config.discriminators = {
    'num_scales': 3,
    'wave_channels': wave_channels,
    'wave_max_channels': wave_max_channels,
    'stft_channels': stft_channels,
    'dtype': s.dtype,
  }
  config.loss = {
    'reconstruction_weight': 1.0,
    'waveform_weight': s.waveform_weight,
    'adversarial_weight': 1.0,
    'feature_weight': s.feature_weight,
    'commitment_weight': 0.25,
    'adversarial_start': s.adversarial_start,
    'adversarial_warmup': s.adversarial_warmup,
    'quantizer_dropout': 0.5,
    'codebook_decay': s.codebook_decay,
    'dead_threshold': 2.0,
    'kmeans_iterations': 10,
  }
  adam = {
    'name': 'adam',
    'schedule': s.schedule,
    'learning_rate': s.learning_rate,
    'warmup_steps': s.warmup_steps,
    'b1': 0.5,
    'b2': 0.9,
    'weight_decay': 0.0,
    'clip_norm': 1.0,
  }
  config.optimizer = {
    'codec': adam | {'name': s.optimizer},
    'discriminators': adam | {'schedule': 'constant', 'learning_rate': 2e-4},
  }
  config.schedule = {
    'total_steps': s.total_steps,
    'log_every': s.log_every,
    'eval_every': s.eval_every,
    'save_every': s.save_every,
    'keep_every': s.keep_every,
    # Distances are smallest before the adversaries, the sound is not best.
    'keep_best': '',
  }
  config.data = {
    'source': s.source,
    'batch_size': s.batch_size,
    'crop_seconds': s.crop_seconds,
    'noise_probability': 0.0,
    'eval_batches': s.eval_batches,
  }
  config.training = {'accumulation': 1, 'ema_decay': s.ema_decay}
  config.mesh = {'fsdp': 1, 'tensor': 1}
  return config
