"""The numbers of MusicLM's three language models and of how they sample."""

from paper.rows import Chapter, Claim, Number

_AUDIOLM = 'AudioLM, notes'
_TASK = 'token_lm/test_token_lm_task.py::'
_LAYOUT = 'token_lm/test_layout.py::'
_DECODE = 'token_lm/test_decode.py::'


def _all(key: str) -> str:
  """The value that all three stages share, or their three values."""
  return f"of_all_stages('{key}')"


def _layout(stage: str, what: str) -> str:
  return f'task("{stage}").lm.layout.{what}'


MODEL = Chapter(
  'Language models: the Transformer',
  (
    Number('layers', 24, _all('model.num_layers'), 'MusicLM §4.1'),
    Number('heads', 16, _all('model.num_heads'), 'MusicLM §4.1'),
    Number('width', 1024, _all('model.embed_dim'), 'MusicLM §4.1'),
    Number('width of the MLP', 4096, _all('model.mlp_dim'), 'MusicLM §4.1'),
    Number('dropout', 0.1, _all('model.dropout_rate'), 'MusicLM §4.1'),
    Number('width of a head', 64, _all('model.head_dim'), 'derived'),
    Number(
      'parameters of the semantic stage, millions',
      430,
      'millions(parameters("semantic"))',
      'MusicLM §4.1',
    ),
    Number(
      'parameters of the coarse stage, millions',
      430,
      'millions(parameters("coarse"))',
      'MusicLM §4.1',
      departs='its tables span 17,408 ids and one mask, more than the '
      "semantic stage's 13,312; the paper gives one number for all",
    ),
    Number(
      'parameters of the fine stage, millions',
      430,
      'millions(parameters("fine"))',
      'MusicLM §4.1',
      departs='24,576 ids and one mask: it reads MuLan tokens too; without '
      'them it had 427.9 M',
    ),
    Number(
      'kernels of the MLP',
      3,
      'sum("/mlp/" in path for path in shapes("semantic"))',
      'derived: only a gated MLP gives 430 M',
    ),
    Number(
      'tables of ids, in and out',
      2,
      'sum(shape[0] == task("semantic").lm.layout.vocabulary_size'
      ' for shape in shapes("semantic").values())',
      'derived: only untied tables give 430 M',
    ),
    Number(
      'buckets of relative positions',
      32,
      _all('model.relative_buckets'),
      'T5, memory',
      departs="MusicLM says relative positions and gives no number; T5's 32 "
      'cannot tell where a token of another segment is',
    ),
    Number(
      'distance of the last bucket, tokens',
      128,
      'tuple(task(stage).lm.model.transformer.relative_max_distance'
      ' for stage in ("semantic", "coarse", "fine"))',
      'T5, memory',
      departs='the length of the sequence, for the same reason',
    ),
    Number(
      'buckets of a bias by time between segments',
      0,
      _all('model.time_buckets'),
      'none in MusicLM',
    ),
    Number(
      'factors of relative biases and embeddings, which a short run needs',
      (1.0, 1.0),
      _all('model.relative_gain') + ', ' + _all('model.embedding_scale'),
      'T5, code',
    ),
    Number(
      "layers of AudioLM's models, 0.3 B each",
      12,
      _all('model.num_layers'),
      _AUDIOLM,
      departs="MusicLM's are deeper; AudioLM's are these with one config key",
    ),
  ),
  (
    Claim(
      "The block is T5 v1.1's: RMS norm first, no biases, gated GELU, logits "
      'unscaled, one table of biases for all layers.',
      'derived from the 430 M; T5 v1.1, code',
      ('nn/test_transformer.py::test_parity_of_the_lm_block_with_t5',),
    ),
    Claim(
      'Causal, and attention is used.',
      'MusicLM §4.1',
      (
        _TASK + 'test_a_token_moves_what_follows_it_and_nothing_before',
        'nn/test_transformer.py::test_attention_is_used',
      ),
    ),
  ),
)

SEQUENCES = Chapter(
  'Language models: sequences',
  (
    Number(
      'crop of the semantic stage, s',
      30,
      'semantic.data.crop_seconds',
      'MusicLM §4.2',
    ),
    Number(
      'crop of the coarse stage, s',
      10,
      'coarse.data.crop_seconds',
      'MusicLM §4.2',
    ),
    Number(
      'crop of the fine stage, s', 3, 'fine.data.crop_seconds', 'MusicLM §4.2'
    ),
    Number('coarse levels', 4, _all('layout.coarse_levels'), 'MusicLM §3.2'),
    Number(
      'fine levels',
      8,
      _layout('fine', 'predicted.num_levels'),
      'MusicLM §3.2',
    ),
    Number(
      'coarse and fine tokens a second',
      (200, 400),
      '[task(s).lm.layout.predicted.num_levels * 50'
      ' for s in ("coarse", "fine")]',
      'MusicLM, derived',
    ),
    Number(
      'MuLan tokens that condition',
      12,
      _all('layout.mulan_levels'),
      'MusicLM §3.2',
    ),
    Number(
      'tokens of the semantic stage',
      762,
      _layout('semantic', 'num_tokens'),
      'MusicLM, derived: 12 + 750',
    ),
    Number(
      'tokens of the coarse stage',
      2262,
      _layout('coarse', 'num_tokens'),
      'MusicLM, derived: 12 + 250 + 2000',
    ),
    Number(
      'tokens of the fine stage',
      1800,
      _layout('fine', 'num_tokens'),
      'MusicLM, derived: 600 + 1200',
      departs='12 MuLan tokens more: the paper leaves open whether they are '
      'read here',
    ),
    Number(
      'ids of the three stages',
      (13_312, 17_408, 24_576),
      '[task(s).lm.layout.vocabulary_size - 1'
      ' for s in ("semantic", "coarse", "fine")]',
      'derived: 1,024 for each segment and level',
    ),
    Number(
      'ids beside these (masks, ends)',
      None,
      'task("semantic").lm.layout.vocabulary_size - 13_312',
      silent='stands for MuLan levels that are masked; unused in the paper '
      'configs. Segments have fixed lengths, so nothing marks an end',
    ),
    Number(
      'share of examples that read all MuLan levels in training',
      1.0,
      _all('loss.all_levels_probability'),
      'MusicLM §3.2',
    ),
    Number(
      "share of MuLan levels that are another example's in training",
      0.0,
      _all('loss.wrong_level_probability'),
      'MusicLM §3.2',
    ),
    Number(
      'share of examples whose MuLan tokens are of another window',
      0.0,
      _all('data.other_window_probability'),
      'MusicLM §3.2',
    ),
  ),
  (
    Claim(
      'Codes are laid out row-major by time, each (segment, level) with ids '
      'of its own.',
      'MusicLM §3.2, AudioLM §3.3',
      (
        _LAYOUT + 'test_flattening_is_row_major_by_time',
        _LAYOUT + 'test_ids_of_segments_and_levels_never_meet',
      ),
    ),
    Claim(
      'Only predicted tokens are in the loss.',
      'ours; the papers are silent',
      (_TASK + 'test_only_predicted_tokens_enter_the_loss',),
    ),
    Claim(
      'Only the 1,024 ids of a level can be drawn.',
      'ours; the papers are silent',
      (_DECODE + 'test_samples_are_legal_and_of_the_right_shape',),
    ),
    Claim(
      'Semantic and acoustic tokens of an example are of the same crop.',
      'MusicLM §3.2',
      ('data/test_batches.py::test_streams_of_a_crop_are_aligned',),
    ),
  ),
)

CHAPTERS = (
  MODEL,
  SEQUENCES,
)
