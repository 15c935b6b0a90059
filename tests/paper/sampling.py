"""The numbers of the language models' training and of how they sample."""

from paper.rows import Chapter, Claim, Number

_AUDIOLM = 'AudioLM, notes'
_DECODE = 'token_lm/test_decode.py::'
_TEMPERATURES = (
  '(SamplingConfig().temperature_semantic, SamplingConfig().temperature_coarse,'
  ' SamplingConfig().temperature_fine)'
)


def _all(key: str) -> str:
  """The value that all three stages share, or their three values."""
  return f"of_all_stages('{key}')"


TRAINING = Chapter(
  'Language models: training',
  (
    Number(
      'batch',
      256,
      _all('data.batch_size'),
      _AUDIOLM,
      departs='a crop for each of 1,024 chips, such as v5p-2048 has',
    ),
    Number('steps', 1_000_000, _all('schedule.total_steps'), _AUDIOLM),
    Number(
      'optimizer',
      None,
      _all('optimizer.lm.name'),
      silent='neither MusicLM nor AudioLM names one',
    ),
    Number(
      'peak learning rate and warm-up, steps',
      None,
      '(semantic.optimizer.lm.learning_rate,'
      ' semantic.optimizer.lm.warmup_steps)',
      silent='ours, with inverse square root',
    ),
    Number(
      'piano codec, levels and entries',
      (3, 2**14),
      '(soundstream.model.num_quantizers, soundstream.model.codebook_size)',
      _AUDIOLM,
      departs="another codec than MusicLM's",
    ),
  ),
)

SAMPLING = Chapter(
  'Language models: sampling and long music',
  (
    Number(
      'temperatures of the three stages',
      (1.0, 0.95, 0.4),
      _TEMPERATURES,
      'MusicLM §4.2',
    ),
    Number(
      'scale of guidance, 1 being none',
      1,
      'SamplingConfig().guidance_coarse',
      'none in MusicLM',
    ),
    Number(
      'MuLan levels of a text that are used',
      12,
      'SamplingConfig().mulan_levels',
      'MusicLM §3.2',
    ),
    Number(
      "AudioLM's temperatures",
      (0.6, 0.8, 0.6),
      _TEMPERATURES,
      _AUDIOLM,
      departs="MusicLM's are used; these are three flags",
    ),
    Number(
      'advance of a semantic window, s',
      15,
      'windows.windows(1500, 750)[1].frames / 25',
      'MusicLM §6',
    ),
    Number(
      'tokens that a semantic window continues, and adds',
      (375, 375),
      '(windows.windows(1500, 750)[1].prefix,'
      ' windows.windows(1500, 750)[1].frames)',
      'MusicLM §6',
    ),
    Number(
      'advance of a coarse window, s',
      None,
      'windows.windows(1000, 500)[1].frames / 50',
      silent='half of a crop, reading the semantic tokens of its time',
    ),
    Number(
      'a fine chunk, s',
      3,
      'fine.data.crop_seconds',
      'AudioLM, notes',
    ),
    Number(
      'longest piece, s',
      300,
      'inputs.MAX_SECONDS',
      'MusicLM, its demonstrations',
      departs='a limit against slips; nothing has been judged at that length',
    ),
    Number(
      'story mode: a new text every, s',
      15,
      'windows.windows(1500, 750, cuts=[375])[1].frames / 25',
      'MusicLM §6',
    ),
  ),
  (
    Claim(
      'Plain sampling: neither top-k nor top-p nor guidance by default.',
      'MusicLM §4.2',
      (_DECODE + 'test_defaults_are_plain_sampling',),
    ),
    Claim(
      'A prefix is kept and continued.',
      _AUDIOLM,
      (_DECODE + 'test_a_prefix_is_kept_and_continued',),
    ),
    Claim(
      'Fine tokens are made in chunks that do not depend on each other.',
      _AUDIOLM,
      (
        'cascade/test_windows.py::'
        'test_chunks_cover_each_frame_once_without_padding',
      ),
    ),
  ),
)

CHAPTERS = (
  TRAINING,
  SAMPLING,
)
