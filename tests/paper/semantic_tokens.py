"""The numbers of semantic tokens."""

from paper.rows import Chapter, Claim, Number

SEMANTIC = Chapter(
  'Semantic tokens',
  (
    Number(
      'block of the masked-prediction module',
      7,
      'task("w2v_bert").semantic.feature_block',
      'MusicLM §3.1',
    ),
    Number(
      'the same, counted from the first',
      19,
      'w2v_bert.model.contrastive_blocks'
      ' + task("w2v_bert").semantic.feature_block',
      'derived',
    ),
    Number(
      'width of a feature',
      1024,
      'task("w2v_bert").semantic.model.embed_dim',
      'AudioLM, notes',
    ),
    Number('clusters', 1024, 'kmeans.model.codebook_size', 'MusicLM §3.1'),
    Number(
      'tokens a second',
      25,
      'semantic.layout.semantic_frame_rate',
      'MusicLM §3.1',
    ),
    Number(
      'bits a second',
      250,
      'semantic.layout.semantic_frame_rate'
      ' * math.log2(kmeans.model.codebook_size)',
      'AudioLM, notes',
    ),
    Number(
      'sample rate that w2v-BERT reads, Hz',
      16_000,
      'frontend._SAMPLE_RATE',
      'AudioLM, notes',
    ),
    Number(
      'samples of 16 kHz a token',
      640,
      'frontend.SAMPLES_PER_FRAME * 16 / 24',
      'AudioLM, notes',
    ),
    Number(
      'frames of the fit, millions',
      None,
      'millions(kmeans.schedule.total_steps * kmeans.data.batch_size'
      ' * kmeans.data.crop_seconds * 25)',
      silent='k-means++ and Lloyd on a batch, then mini-batches',
    ),
    Number(
      'crop of the fit and of the semantic stage, s',
      (30, 30),
      '(kmeans.data.crop_seconds, semantic.data.crop_seconds)',
      'derived: features see their neighbours',
    ),
  ),
  (
    Claim(
      'Each dimension is standardised over the corpus before k-means.',
      'AudioLM, notes',
      (
        'w2v_bert/test_w2v_statistics.py::'
        'test_each_dimension_is_normalised_over_the_corpus_not_each_vector',
      ),
    ),
    Claim(
      'Repeated tokens are kept.',
      'MusicLM, derived from its lengths; AudioLM removes them',
      (
        'token_lm/test_layout.py::test_paper_sequences_have_the_papers_lengths',
      ),
    ),
  ),
)

CHAPTERS = (SEMANTIC,)
