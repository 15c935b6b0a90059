"""w2v-BERT's numbers (XL) and those of semantic tokens."""

from paper.rows import Chapter, Claim, Number

_NOTES = 'w2v-BERT, notes'
_LOSSES = 'w2v_bert/test_w2v_losses.py::'
_TASK = 'w2v_bert/test_w2v_task.py::'
_CONTEXT = 'w2v_bert/test_semantic_context.py::'


def _model(key: str) -> str:
  return f'w2v_bert.model.{key}'


def _loss(key: str) -> str:
  return f'w2v_bert.loss.{key}'


NETWORK = Chapter(
  'w2v-BERT: the network',
  (
    Number('mel bands', 80, _model('num_mels'), _NOTES),
    Number(
      'window and hop, ms',
      (25, 10),
      '(frontend._WINDOW / 16, frontend._HOP / 16)',
      'w2v-BERT, memory',
    ),
    Number(
      'subsampling kernels',
      ((3, 3), (3, 3)),
      '[kernel("w2v_bert", f"w2v_bert/subsampling/Conv_{i}")[:2]'
      ' for i in range(2)]',
      'w2v-BERT, memory',
    ),
    Number(
      'subsampling channels',
      (128, 32),
      _model('conv_channels'),
      'w2v-BERT, memory',
    ),
    Number(
      'frames a second of the blocks',
      25,
      'task("w2v_bert").semantic.frame_rate',
      _NOTES,
    ),
    Number(
      'blocks of the contrastive module',
      12,
      _model('contrastive_blocks'),
      _NOTES,
    ),
    Number(
      'blocks of the masked-prediction module',
      12,
      _model('masked_blocks'),
      _NOTES,
    ),
    Number('width', 1024, _model('embed_dim'), _NOTES),
    Number('heads', 8, _model('num_heads'), _NOTES),
    Number('width of the feed-forwards', 4096, _model('mlp_dim'), _NOTES),
    Number('convolution kernel', 5, _model('kernel_size'), _NOTES),
    Number(
      'reach of the attention, s',
      'all',
      'w2v_bert.model.attention_seconds or "all"',
      'Conformer',
    ),
    Number(
      'depth of the semantic features, if another',
      'none',
      'w2v_bert.model.feature_depth or "none"',
      'AudioLM §4.1',
    ),
    Number(
      'norm of the convolution',
      'batch',
      _model('conv_norm'),
      'Conformer, memory',
    ),
    Number(
      'parameters of one block, millions',
      25.2,
      'millions(parameters("w2v_bert", "w2v_bert/contrastive") / 12, 1)',
      'derived',
    ),
    Number(
      'parameters, 10⁹',
      0.6,
      'round(parameters("w2v_bert") / 1e9, 1)',
      'MusicLM §3.1',
    ),
    Number('dropout', None, _model('dropout_rate'), silent='as in Conformer'),
    Number(
      'blocks of the masked-prediction module of XXL',
      30,
      _model('masked_blocks'),
      _NOTES,
      departs='MusicLM uses XL; XXL is XL with one config key',
    ),
  ),
  (
    Claim(
      'A frame is 40 ms, exactly two frames of the codec.',
      'MusicLM §3.1, derived',
      (_TASK + 'test_one_frame_every_960_samples_exactly',),
    ),
    Claim(
      'The block is the Conformer of a published implementation.',
      'Conformer',
      ('nn/test_conformer.py::test_parity_with_transformers_conformer_layer',),
    ),
    Claim(
      'Input bands are standardised over the corpus.',
      'ours; the paper is silent',
      (_TASK + 'test_features_follow_the_standardised_corpus',),
    ),
    Claim(
      'Where its attention is limited, any length of a clip gives the same '
      'tokens away from its edges.',
      'ours; `small` alone',
      (
        _CONTEXT + 'test_any_length_gives_the_same_tokens_away_from_its_edges',
        'nn/test_conformer.py::test_limited_attention_is_masked_attention',
      ),
    ),
  ),
)

TRAINING = Chapter(
  'w2v-BERT: quantizer, masking, losses',
  (
    Number('entries of the codebook', 1024, _model('codebook_size'), _NOTES),
    Number('width of a code vector', 1024, _model('code_dim'), _NOTES),
    Number(
      'first and last temperature of the Gumbel softmax',
      (2.0, 0.5),
      '(w2v_bert.loss.first_temperature, w2v_bert.loss.last_temperature)',
      'wav2vec 2.0, memory',
    ),
    Number(
      'temperature factor a step',
      0.999995,
      'round((w2v_bert.loss.last_temperature'
      ' / w2v_bert.loss.first_temperature)'
      ' ** (1 / w2v_bert.schedule.total_steps), 7)',
      'wav2vec 2.0, memory',
      departs='it falls over the whole run; w2v-BERT gives no schedule',
    ),
    Number(
      'probability that a span begins',
      0.065,
      _loss('mask_probability'),
      _NOTES,
    ),
    Number(
      'cepstra instead of log-mels, which a short run needs',
      0,
      _model('num_cepstra'),
      'none in w2v-BERT',
    ),
    Number(
      "share of the quantizer's gradient that goes on, and its inertia",
      (1.0, 1.0),
      '(w2v_bert.model.quantizer_gradient, w2v_bert.model.quantizer_inertia)',
      'wav2vec 2.0',
    ),
    Number('frames of a span', 10, _loss('mask_span'), _NOTES),
    Number(
      'span, ms',
      400,
      'w2v_bert.loss.mask_span / task("w2v_bert").semantic.frame_rate * 1000',
      _NOTES,
    ),
    Number(
      'contrastive temperature κ',
      0.1,
      _loss('contrastive_temperature'),
      'wav2vec 2.0, memory',
    ),
    Number('distractors', 100, _loss('num_distractors'), 'wav2vec 2.0, memory'),
    Number(
      'weight of the diversity loss', 0.1, _loss('diversity_weight'), _NOTES
    ),
    Number(
      'share of the steps without masked prediction',
      0.0,
      _loss('contrastive_only'),
      _NOTES,
      departs='codes that nothing has shaped yet are no targets; a key of the '
      'config',
    ),
    Number('optimizer', 'adam', 'w2v_bert.optimizer.w2v_bert.name', _NOTES),
    Number(
      'peak learning rate',
      2e-3,
      'w2v_bert.optimizer.w2v_bert.learning_rate',
      _NOTES,
    ),
    Number(
      'warm-up, steps',
      25_000,
      'w2v_bert.optimizer.w2v_bert.warmup_steps',
      _NOTES,
    ),
    Number(
      'schedule',
      'inverse_sqrt',
      'w2v_bert.optimizer.w2v_bert.schedule',
      _NOTES,
    ),
    Number('batch, utterances', 2048, 'w2v_bert.data.batch_size', _NOTES),
    Number('steps', 400_000, 'w2v_bert.schedule.total_steps', _NOTES),
    Number(
      'b1 and b2 (of XXL, with Adafactor)',
      (0.9, 0.98),
      '(w2v_bert.optimizer.w2v_bert.b1, w2v_bert.optimizer.w2v_bert.b2)',
      _NOTES,
    ),
    Number(
      'crop of music, s', None, 'w2v_bert.data.crop_seconds', silent='ours'
    ),
    Number(
      'data',
      'Libri-Light, 60,000 h; MusicLM: FMA',
      'w2v_bert.data.source',
      'w2v-BERT, notes; MusicLM §4.2',
      departs='a folder of your own; no data set is shipped',
    ),
  ),
  (
    Claim(
      'Spans may overlap; masked frames become noise, each its own.',
      _NOTES,
      (
        _LOSSES + 'test_mask_covers_the_share_that_overlapping_spans_cover',
        _TASK + 'test_training_hides_the_masked_frames',
      ),
    ),
    Claim(
      'Distractors are other masked frames of the same utterance.',
      'wav2vec 2.0',
      (
        _LOSSES
        + 'test_distractors_are_other_masked_frames_of_the_same_utterance',
      ),
    ),
    Claim(
      'A drawn frame with the code of the target is no distractor.',
      'wav2vec 2.0: its paper keeps it, its code does not',
      (_LOSSES + 'test_contrastive_loss_equals_a_plain_loop',),
      'a held note would ask to tell a vector from itself',
    ),
    Claim(
      'Diversity in the perplexity form: 1 - 1/K at collapse.',
      _NOTES,
      (
        _LOSSES
        + 'test_diversity_is_zero_at_even_use_and_one_minus_one_in_k_at_'
        'collapse',
      ),
    ),
    Claim(
      'Straight through: one-hot forward, a tempered softmax backward.',
      'wav2vec 2.0',
      (_LOSSES + 'test_choice_is_one_hot_and_its_gradient_a_tempered_softmax',),
    ),
    Claim(
      'The quantizer reads latents standardised over recent batches.',
      'ours; w2v-BERT does not',
      (
        'w2v_bert/test_w2v_statistics.py::'
        'test_statistics_with_a_memory_follow_data_that_drift',
      ),
      'a layer norm leaves what all frames share, and few codes would be used',
    ),
    Claim(
      'What masked prediction has to find is the most probable entry.',
      'ours; notes do not say whether the noisy choice is meant',
      (_LOSSES + 'test_choice_without_noise_is_the_most_probable_entry',),
    ),
    Claim(
      'Collapse (perplexity low, accuracy high) is found and told.',
      'w2v-BERT Figure 2, notes',
      (_TASK + 'test_collapse_is_detected',),
    ),
  ),
)

CHAPTERS = (
  NETWORK,
  TRAINING,
)
