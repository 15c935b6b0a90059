"""SoundStream's discriminators, losses and training."""

from paper.rows import Chapter, Claim, Number

_WAVE = 'discriminators/WaveDiscriminator_0'
_STFT = 'discriminators/StftDiscriminator_0'
_MELGAN = 'MelGAN, memory and code'

DISCRIMINATORS = Chapter(
  'SoundStream: discriminators',
  (
    Number(
      'waveform discriminators',
      3,
      'soundstream.discriminators.num_scales',
      'SoundStream §III-D',
    ),
    Number(
      'kernels of a waveform discriminator',
      (15, 41, 41, 41, 41, 5, 3),
      f'[kernel("soundstream", f"{_WAVE}/Conv_{{i}}")[0] for i in range(7)]',
      _MELGAN,
    ),
    Number(
      'its channels',
      (16, 64, 256, 1024, 1024, 1024, 1),
      f'[kernel("soundstream", f"{_WAVE}/Conv_{{i}}")[2] for i in range(7)]',
      _MELGAN,
    ),
    Number(
      'channels a group of its strided layers',
      (4, 4, 4, 4),
      f'[kernel("soundstream", f"{_WAVE}/Conv_{{i}}")[1] for i in range(1, 5)]',
      _MELGAN,
    ),
    Number(
      'its strides',
      (4, 4, 4, 4),
      'discriminators.WaveDiscriminator().strides',
      _MELGAN,
    ),
    Number(
      'slope of its LeakyReLU',
      0.2,
      'discriminators._SLOPE',
      _MELGAN,
    ),
    Number(
      'parameters of one, millions',
      5.64,
      f'millions(parameters("soundstream", "{_WAVE}"), 2)',
      'derived',
    ),
    Number(
      'parameters of all three, millions',
      16.9,
      'millions(parameters("soundstream", "discriminators/Wave"), 1)',
      'derived',
    ),
    Number(
      'STFT window and hop, samples',
      (1024, 256),
      '(discriminators.StftDiscriminator().window_length,'
      ' discriminators.StftDiscriminator().hop_length)',
      'SoundStream §III-D',
    ),
    Number(
      'windows of the STFT discriminators of the config',
      (1024,),
      'soundstream.discriminators.stft_windows',
      'SoundStream §III-D',
    ),
    Number(
      'first kernel and channels of the STFT discriminator',
      (7, 7, 2, 32),
      f'kernel("soundstream", "{_STFT}/Conv_0")',
      'SoundStream §III-D',
    ),
    Number(
      'second kernels of its residual blocks, 2 longer than the strides'
      ' (1,2) and (2,2)',
      ((3, 4), (4, 4), (3, 4), (4, 4), (3, 4), (4, 4)),
      f'[kernel("soundstream", f"{_STFT}/StftUnit_{{i}}/Conv_1")[:2]'
      ' for i in range(6)]',
      'SoundStream §III-D',
    ),
    Number(
      'channels that leave its blocks',
      (64, 128, 128, 256, 256, 512),
      f'[kernel("soundstream", f"{_STFT}/StftUnit_{{i}}/Conv_1")[3]'
      ' for i in range(6)]',
      'SoundStream Figure 4, memory',
    ),
    Number(
      'its last kernel',
      (1, 8),
      f'kernel("soundstream", "{_STFT}/Conv_1")[:2]',
      'SoundStream §III-D',
    ),
    Number(
      'its parameters, millions',
      5.5,
      f'millions(parameters("soundstream", "{_STFT}"), 1)',
      'derived',
      departs='5.55 with the lengths of weight normalisation, on which the '
      'paper is silent',
    ),
  ),
  (
    Claim(
      'Scales are averages over 4 samples every 2, of what is there.',
      _MELGAN,
      (
        'soundstream/test_discriminators.py::'
        'test_scales_are_averages_of_what_is_there',
      ),
    ),
    Claim(
      '512 bins go in, 8 times fewer logits than frames come out.',
      'SoundStream §III-D',
      (
        'soundstream/test_discriminators.py::test_paper_size_has_the_papers_shapes',
      ),
    ),
  ),
)

LOSSES = Chapter(
  'SoundStream: losses and training',
  (
    Number(
      'weight of the reconstruction loss',
      1,
      'soundstream.loss.reconstruction_weight',
      'SoundStream §III-E',
    ),
    Number(
      'weight of the adversarial loss',
      1,
      'soundstream.loss.adversarial_weight',
      'SoundStream §III-E',
    ),
    Number(
      'weight of the feature loss',
      100,
      'soundstream.loss.feature_weight',
      'SoundStream §III-E',
    ),
    Number(
      'weight of a loss on the waveform',
      0,
      'soundstream.loss.waveform_weight',
      'SoundStream §III-E',
    ),
    Number(
      'factor of the waveform, which a short run needs',
      1,
      'soundstream.model.gain',
      'none in SoundStream',
    ),
    Number(
      'share of the steps without discriminators',
      0,
      'soundstream.loss.adversarial_start'
      ' + soundstream.loss.adversarial_warmup',
      'SoundStream §III-E',
    ),
    Number(
      'windows of the reconstruction loss',
      (64, 128, 256, 512, 1024, 2048),
      'losses.WINDOWS',
      'SoundStream §III-E',
    ),
    Number('mel bands of each', 64, 'losses._NUM_MELS', 'SoundStream §III-E'),
    Number(
      'the same scales in the config',
      True,
      'soundstream.loss.mel_scales == losses.SCALES'
      ' and not soundstream.loss.mel_log_only',
      'SoundStream §III-E',
    ),
    Number(
      'weight of a loss at linear frequencies',
      0,
      'soundstream.loss.log_stft_weight',
      'SoundStream §III-E',
    ),
    Number(
      'shortest FFT, samples',
      None,
      'min(losses.fft_size(*scale) for scale in losses.SCALES)',
      silent='with shorter windows as they are most of 64 bands are empty',
    ),
    Number(
      'floor of log-mels',
      None,
      'losses._FLOOR',
      silent='magnitudes, 0-12 kHz',
    ),
    Number(
      'optimizer',
      None,
      'soundstream.optimizer.codec.name',
      silent='the paper names none',
    ),
    Number(
      'learning rate',
      None,
      'soundstream.optimizer.codec.learning_rate',
      silent='common practice; 3e-4 was reported to diverge',
    ),
    Number(
      "Adam's b1 and b2",
      None,
      '(soundstream.optimizer.codec.b1, soundstream.optimizer.codec.b2)',
      silent='common practice',
    ),
    Number(
      'largest norm of a gradient',
      None,
      'soundstream.optimizer.codec.clip_norm',
      silent='ours',
    ),
    Number('steps', None, 'soundstream.schedule.total_steps', silent='ours'),
    Number('batch size', None, 'soundstream.data.batch_size', silent='ours'),
    Number(
      'crop where noise is mixed, s',
      3,
      'soundstream.data.crop_seconds',
      'SoundStream §IV-A',
      departs='for music the paper gives none; as in EnCodec',
    ),
    Number(
      'decay of the averaged parameters',
      None,
      'soundstream.training.ema_decay',
      silent='codebooks are copied, not averaged',
    ),
    Number(
      'data',
      'LibriTTS, Freesound, MagnaTagATune; MusicLM: FMA',
      'soundstream.data.source',
      'SoundStream §IV-A, MusicLM §4.2',
      departs='a folder of your own; no data set is shipped',
    ),
  ),
  (
    Claim(
      'Hinge losses, averaged over the four discriminators and over time.',
      'SoundStream §III-E',
      (
        'soundstream/test_soundstream_losses.py::'
        'test_hinge_leaves_fakes_below_minus_one_alone',
        'soundstream/test_soundstream_losses.py::'
        'test_discriminators_are_averaged_whatever_their_length',
      ),
    ),
    Claim(
      'Feature loss: the mean distance over layers and discriminators.',
      'SoundStream §III-E',
      (
        'soundstream/test_soundstream_losses.py::'
        'test_feature_loss_is_the_mean_over_layers_and_discriminators',
      ),
    ),
    Claim(
      'The reconstruction loss is a mean over frames, bands and scales, where '
      'the paper has sums.',
      'SoundStream §III-E',
      (
        'soundstream/test_soundstream_losses.py::'
        'test_reconstruction_loss_does_not_grow_with_the_crop',
      ),
      'a sum grows with the crop and outweighs the other terms; the ratio of '
      'its two parts is kept',
    ),
    Claim(
      'Reconstruction: L1 of mels, and √(s/2) times the 2-norm, not squared, '
      'of log-mels; hop s/4.',
      'SoundStream §III-E',
      (
        'soundstream/test_soundstream_losses.py::'
        'test_reconstruction_loss_follows_the_papers_equation',
      ),
    ),
  ),
)

CHAPTERS = (DISCRIMINATORS, LOSSES)
