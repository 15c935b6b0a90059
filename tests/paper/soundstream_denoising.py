"""SoundStream's denoising."""

from paper.rows import Chapter, Claim, Number

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
        'test_the_flag_acts_per_row_and_an_untrained_one_changes_nothing',
      ),
    ),
  ),
)

CHAPTERS = (FILM,)
