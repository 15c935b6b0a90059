"""The numbers of MusicLM's melody conditioning (appendix C)."""

from paper.rows import Chapter, Claim, Number

_APPENDIX = 'MusicLM App. C'


def _model(key: str) -> str:
  return f'melody.model.{key}'


MELODY = Chapter(
  'Melody',
  (
    Number('layers', 12, _model('num_layers'), _APPENDIX),
    Number('heads', 6, _model('num_heads'), _APPENDIX),
    Number('width', 512, _model('embed_dim'), _APPENDIX),
    Number('width of the MLP', 1024, _model('mlp_dim'), _APPENDIX),
    Number('width of the embedding', 192, _model('output_dim'), _APPENDIX),
    Number(
      'width of a head',
      None,
      _model('head_dim'),
      silent='512 / 6 is no whole number',
    ),
    Number('window, s', 4, 'melody.loss.window_seconds', _APPENDIX),
    Number('hop, s', 3, 'melody.loss.window_hop_seconds', _APPENDIX),
    Number(
      'windows in 10 s',
      3,
      '1 + (10 - melody.loss.window_seconds) // melody.loss.window_hop_seconds',
      _APPENDIX,
    ),
    Number(
      'frames of a window, one token each',
      None,
      'shapes("melody")["melody/position"][0]',
      silent='mel parameters, pooling and norms are ours',
    ),
    Number('mel bands', None, _model('num_mels'), silent='they end at 4 kHz'),
    Number(
      'margin of the loss', None, 'melody.loss.margin', silent="FaceNet's"
    ),
    Number(
      'batch and steps',
      None,
      '(melody.data.batch_size, melody.schedule.total_steps)',
      silent='ours',
    ),
    Number(
      'levels and entries of the melody quantizer',
      (24, 512),
      '(melody_rvq.model.num_levels, melody_rvq.model.codebook_size)',
      _APPENDIX,
    ),
    Number(
      'melody tokens in 10 s',
      72,
      'tokens_with_melody("coarse", 10) - task("coarse").lm.layout.num_tokens',
      _APPENDIX,
    ),
    Number(
      'tokens of the semantic stage with melody, 10 s',
      334,
      'tokens_with_melody("semantic", 10)',
      'MusicLM, derived',
    ),
    Number(
      'tokens of the coarse stage with melody, 10 s',
      2334,
      'tokens_with_melody("coarse", 10)',
      'MusicLM, derived',
    ),
  ),
  (
    Claim(
      'A patch is one frame of all bands; ten seconds are three windows.',
      _APPENDIX,
      (
        'melody/test_melody_task.py::test_parameters_at_paper_size_are_counted',
        'melody/test_melody_task.py::test_ten_seconds_are_three_windows',
      ),
    ),
    Claim(
      'Pairs are two takes of composed melodies, where the paper has covers, '
      'instrumentals, vocals, humming and singing.',
      _APPENDIX,
      (
        'rendered_music/test_melody_takes.py::test_takes_differ_in_player_tempo_and_key',
      ),
      'such pairs are not public',
    ),
    Claim(
      'Semi-hard triplets; the nearest negative where there is none.',
      'MusicLM App. C, FaceNet',
      ('melody/test_melody_losses.py::test_loss_is_that_of_a_plain_loop',),
    ),
  ),
)

CHAPTERS = (MELODY,)
