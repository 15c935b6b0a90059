"""SoundStream's denoising and the figures of its paper."""

from paper.rows import Chapter, Claim, Number

_NO_SPEECH = 'a figure on speech of theirs; not measured'
_RESULT = 'a figure of theirs, by their weights and data; not measured'

FILM = Chapter(
  'SoundStream: taking noise out',
  (
    Number(
      'gain of the noise, dB',
      (-30, 0),
      'noise.GAINS_DB',
      'SoundStream §IV-A',
    ),
    Number(
      'in the paper config',
      None,
      'soundstream.model.denoises',
      silent='MusicLM has no use for it; a config key turns it on',
    ),
    Number(
      'ViSQOL at 0, 5, 10, 15 dB, joint',
      (2.93, 3.18, 3.42, 3.58),
      source='SoundStream §V',
      absent=_NO_SPEECH,
    ),
    Number(
      'ViSQOL, SoundStream then SEANet',
      (3.02, 3.30, 3.51, 3.64),
      source='SoundStream §V',
      absent=_NO_SPEECH,
    ),
    Number(
      'ViSQOL, SEANet then SoundStream',
      (3.05, 3.31, 3.50, 3.63),
      source='SoundStream §V',
      absent=_NO_SPEECH,
    ),
  ),
  (
    Claim(
      'Noise is drawn, from white to brown, and its gain is relative to the '
      'level of the crop, where the paper mixes recordings.',
      'SoundStream §IV-A',
      ('data/test_noise.py::test_colours_differ_and_the_level_is_one',),
      'no recordings are shipped with this repository',
    ),
    Claim(
      'Targets follow the flag; clean audio comes with both.',
      'SoundStream §III-F',
      ('data/test_noise.py::test_targets_follow_the_flag',),
    ),
    Claim(
      'The flag scales and shifts latents and may differ from row to row.',
      'SoundStream §III-F',
      (
        'soundstream/test_soundstream_task.py::'
        'test_the_flag_is_heard_per_row_and_an_untrained_one_changes_nothing',
      ),
    ),
  ),
)

RESULTS = Chapter(
  'SoundStream: figures of the paper',
  tuple(
    Number(quantity, figures, source=source, absent=_RESULT)
    for quantity, figures, source in (
      ('ViSQOL at 3 and 6 kbps, text', (3.76, 3.96), 'SoundStream §V'),
      ('ViSQOL at 6 kbps, tables', '4.01 ± 0.03', 'SoundStream Tables I-III'),
      ('ViSQOL at 6 kbps, fixed mel encoder', 3.33, 'SoundStream §V'),
      (
        'ViSQOL at 3 to 18 kbps',
        '> 3.7 to about 4.2',
        'SoundStream, read off a figure',
      ),
      (
        'ViSQOL of 8 × 1024, 16 × 32, 80 × 2 entries',
        (4.01, 3.98, 3.92),
        'SoundStream §V',
      ),
      (
        'ViSQOL of first strides 1, 2, 4',
        (4.01, 4.01, 4.01),
        'SoundStream §V',
      ),
      (
        'ViSQOL at widths (32,32) (16,16) (16,32) (8,32) (32,16) (32,8)',
        (4.01, 3.98, 4.02, 3.99, 3.97, 3.90),
        'SoundStream Table I',
      ),
      (
        'parameters at these widths, millions',
        (8.4, 2.4, 5.5, 4.8, 5.3, 4.4),
        'SoundStream Table I',
      ),
      (
        'times faster than real time on a Pixel 4, encoder and decoder',
        (2.4, 2.3),
        'SoundStream Table I',
      ),
      (
        'MUSHRA',
        '3 kbps above Opus 6 and EVS 5.9, level with EVS 9.6 and Opus 12',
        'SoundStream §V',
      ),
      ('clips of 2-4 s in the evaluation', 200, 'SoundStream §IV'),
    )
  ),
)

CHAPTERS = (
  FILM,
  RESULTS,
)
