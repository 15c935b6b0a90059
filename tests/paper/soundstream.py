"""SoundStream's numbers, in the variant of MusicLM."""

from paper.rows import Chapter, Claim, Number

_ENCODER = 'codec/encoder/'
_BITS = (
  'task("soundstream").codec.frame_rate * soundstream.model.num_quantizers'
  ' * math.log2(soundstream.model.codebook_size)'
)


def _kernel(layer: str) -> str:
  return f'kernel("soundstream", "{layer}")'


CODEC = Chapter(
  'SoundStream: the codec',
  (
    Number(
      'sample rate, Hz',
      24_000,
      'task("soundstream").sample_rate',
      'MusicLM §3.1',
    ),
    Number(
      'hop (product of strides), samples',
      480,
      'task("soundstream").codec.hop_length',
      'MusicLM §3.1',
    ),
    Number(
      'frames a second',
      50,
      'task("soundstream").codec.frame_rate',
      'MusicLM §3.1',
    ),
    Number(
      'quantizer levels',
      12,
      'soundstream.model.num_quantizers',
      'MusicLM §3.1',
    ),
    Number(
      'entries a level',
      1024,
      'soundstream.model.codebook_size',
      'MusicLM §3.1',
    ),
    Number(
      'codes a second',
      600,
      'task("soundstream").codec.frame_rate * soundstream.model.num_quantizers',
      'MusicLM §3.1',
    ),
    Number(
      'bits a second',
      6_000,
      _BITS,
      'MusicLM §3.1',
    ),
    Number(
      'strides',
      (2, 4, 5, 8),
      'soundstream.model.strides',
      'SoundStream §III-A',
      departs='MusicLM wants a product of 480 and names no strides; these are '
      'the ones of a public re-implementation',
    ),
    Number(
      "AudioLM's rate, hop and bits a second",
      (16_000, 320, 6_000),
      '(task("soundstream").sample_rate, task("soundstream").codec.hop_length,'
      f' {_BITS})',
      'AudioLM, notes',
      departs="MusicLM's codec is another",
    ),
    Number(
      'latency, ms',
      13.3,
      'round(1000 / task("soundstream").codec.frame_rate, 1)',
      'SoundStream §III-A',
      departs='one hop, as there, but of 480 samples',
    ),
    Number(
      'width of encoder and decoder, C',
      32,
      'soundstream.model.channels',
      'SoundStream §III',
    ),
    Number(
      'width of latents, D',
      None,
      'soundstream.model.latent_dim',
      silent='as in EnCodec and Lyra',
    ),
    Number(
      'first kernel of the encoder',
      7,
      _kernel(_ENCODER + 'CausalConv_0') + '[0]',
      'SoundStream §III-A',
    ),
    Number(
      'last kernel of the encoder',
      3,
      _kernel(_ENCODER + 'CausalConv_5') + '[0]',
      'SoundStream §III-A',
    ),
    Number(
      'kernels of the strided layers, over their strides',
      (2, 2, 2, 2),
      '[kernel("soundstream", f"codec/encoder/CausalConv_{i + 1}")[0] / s'
      ' for i, s in enumerate(soundstream.model.strides)]',
      'SoundStream, memory',
    ),
    Number(
      'channels after each stride',
      (64, 128, 256, 512),
      '[kernel("soundstream", f"codec/encoder/CausalConv_{i + 1}")[2]'
      ' for i in range(4)]',
      'SoundStream §III-A',
    ),
    Number(
      'kernels of a residual unit',
      (7, 1),
      '[kernel("soundstream", f"codec/encoder/ResidualUnit_0/CausalConv_{i}")'
      '[0] for i in range(2)]',
      'SoundStream §III-A, memory',
    ),
    Number(
      'dilations of the residual units',
      (1, 3, 9),
      'task("soundstream").codec.model.dilations',
      'SoundStream §III-A',
    ),
    Number(
      'first and last kernel of the decoder',
      (7, 7),
      '[kernel("soundstream", f"codec/decoder/CausalConv_{i}")[0]'
      ' for i in range(2)]',
      'SoundStream §III-B (the first: memory)',
    ),
    Number(
      'parameters of encoder and decoder, millions',
      8.4,
      'millions(parameters("soundstream", "codec"), 2)',
      'SoundStream Table I',
      departs="other strides; the paper's own description gives 9.5 to 11.8 M, "
      'so its count and its text do not agree',
    ),
  ),
  (
    Claim(
      'Convolutions are causal: no output depends on a later input.',
      'SoundStream §III-A',
      (
        'nn/test_sequence_contracts.py::'
        'test_an_output_depends_on_the_inputs_that_its_layer_declares',
      ),
    ),
    Claim(
      'A signal in pieces has the codes and the waveform of the whole.',
      'SoundStream §III-A',
      (
        'soundstream/test_soundstream_task.py::'
        'test_streaming_has_the_codes_and_the_waveform_of_the_whole',
      ),
    ),
    Claim(
      'Audio is mono at 24 kHz whatever the file is.',
      'MusicLM §3.1',
      (
        'data/test_audio_folder.py::'
        'test_audio_arrives_as_24_khz_mono_of_the_same_pitch',
      ),
    ),
    Claim(
      'No bias and no norm in the codec: silence has zero latents.',
      'no norm: SoundStream §III-A; the rest is ours',
      (
        'soundstream/test_seanet.py::'
        'test_silence_is_zero_inside_and_silence_again',
      ),
    ),
  ),
)

QUANTIZER = Chapter(
  'SoundStream: the residual quantizer',
  (
    Number(
      'decay of the running means',
      0.99,
      'soundstream.loss.codebook_decay',
      'SoundStream §III-C',
    ),
    Number(
      'encoder and codebooks learn',
      True,
      'not soundstream.loss.frozen_codes',
      'SoundStream §III-C',
    ),
    Number(
      'running count below which an entry is replaced',
      2,
      'soundstream.loss.dead_threshold',
      'SoundStream §III-C',
    ),
    Number(
      'the same as it acts on a batch of the paper config',
      2,
      'soundstream.loss.dead_threshold * min(1, soundstream.data.batch_size'
      ' * soundstream.data.crop_seconds * task("soundstream").codec.frame_rate'
      ' / soundstream.model.codebook_size / 8)',
      'SoundStream §III-C',
      departs='scaled with the frames an entry gets a batch, of which there '
      'are 6.25; unscaled it calls every entry of a small batch dead',
    ),
    Number(
      'entries of a level that are learned',
      1024,
      'soundstream.model.codebook_size - 1',
      'SoundStream §III-C',
      departs='one stays zero, so that silence is coded exactly',
    ),
    Number(
      'share of examples that draw n ~ U{1 … Q} levels',
      1.0,
      'soundstream.loss.quantizer_dropout',
      'SoundStream §III-C',
      departs='the LMs always use all 12 levels; MusicLM does not say whether '
      'levels were dropped',
    ),
    Number(
      'weight of the commitment loss',
      None,
      'soundstream.loss.commitment_weight',
      silent='SoundStream has no such term in its equations',
    ),
    Number(
      'k-means iterations on the first batch',
      None,
      'soundstream.loss.kmeans_iterations',
      silent='unknown; audiocraft takes 50',
    ),
  ),
  (
    Claim(
      'Each level codes what the levels before it leave, nearest in L2.',
      'SoundStream §III-C',
      ('nn/test_quantizer.py::test_quantize_equals_a_plain_numpy_loop',),
    ),
    Claim(
      'Straight through: exact forward, the identity backward.',
      'SoundStream §III-C',
      (
        'nn/test_quantizer.py::'
        'test_straight_through_is_exact_forward_and_the_identity_backward',
      ),
    ),
    Claim(
      'Codebooks begin with k-means on the first batch, level by level.',
      'SoundStream §III-C',
      (
        'nn/test_quantizer.py::'
        'test_first_batch_is_fitted_by_k_means_level_by_level',
      ),
    ),
    Claim(
      'Levels are dropped per example.',
      'SoundStream §III-C',
      (
        'nn/test_quantizer.py::test_dropout_is_per_example',
        'soundstream/test_soundstream_task.py::'
        'test_levels_are_drawn_per_example',
      ),
    ),
  ),
)

CHAPTERS = (
  CODEC,
  QUANTIZER,
)
