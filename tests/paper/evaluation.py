"""MusicLM's evaluation: what is built of it."""

from paper.rows import Chapter, Claim, Number

_METRICS = 'MusicLM §4.4'
_NOT_BUILT = 'not built'
_TRILL = (
  'not built: TRILL is a TensorFlow model whose output layer the paper does '
  'not name'
)
_LEAF = 'not built: no weights of a LEAF classifier on AudioSet were published'
_VGGISH_CODE = 'VGGish, code'


METRICS = Chapter(
  'Evaluation: FAD, KLD, MCC',
  (
    Number(
      'embedders of FAD',
      ('TRILL', 'VGGish'),
      'embedders.EMBEDDERS',
      _METRICS,
      departs='VGGish where its published weights are given; TRILL is a '
      'TensorFlow model whose output layer the paper does not name; a small '
      'one of ours comes with the package, under its own name',
    ),
    Number(
      "TRILL's outputs, widths",
      (512, 12_288),
      source='TRILL, memory',
      absent=_TRILL,
      pattern='nonsemantic',
    ),
    Number(
      'classifier of KLD',
      'LEAF on AudioSet',
      'tagger.NAME',
      _METRICS,
      departs='no weights of a LEAF classifier on AudioSet were published; '
      'ours learned from composed music, and its accuracy stands beside',
    ),
    Number(
      'LEAF: filters, kernel and stride in samples',
      (40, 401, 160),
      source='LEAF, code',
      absent=_LEAF,
      pattern='pcen',
    ),
    Number(
      'LEAF: PCEN α, s, δ',
      (0.96, 0.04, 2),
      source='LEAF, code',
      absent=_LEAF,
      pattern='pcen',
    ),
    Number(
      'LEAF: band, Hz, and rate',
      (60, 7_800, 16_000),
      source='LEAF, code',
      absent=_LEAF,
      pattern='pcen',
    ),
    Number('VGGish: rate, Hz', 16_000, 'vggish_mel.SAMPLE_RATE', _VGGISH_CODE),
    Number(
      'VGGish: window, hop, FFT, samples',
      (400, 160, 512),
      '(vggish_mel.WINDOW_LENGTH, vggish_mel.HOP_LENGTH, vggish_mel.FFT_SIZE)',
      _VGGISH_CODE,
    ),
    Number(
      'VGGish: mel bands, and their ends, Hz',
      (64, 125, 7_500),
      '(vggish_mel.NUM_MELS, vggish_mel.LOW_HZ, vggish_mel.HIGH_HZ)',
      _VGGISH_CODE,
    ),
    Number(
      'VGGish: offset of the logarithm',
      0.01,
      'vggish_mel.LOG_OFFSET',
      _VGGISH_CODE,
    ),
    Number(
      'VGGish: frames of an example, s',
      (96, 0.96),
      "(vggish_mel.EXAMPLE_FRAMES, embedders.WINDOWINGS['vggish'].hop_seconds)",
      _VGGISH_CODE,
    ),
    Number(
      'VGGish: channels',
      (64, 128, 256, 256, 512, 512),
      '[k[-1] for k in vggish.KERNELS.values() if len(k) == 4]',
      _VGGISH_CODE,
    ),
    Number(
      'VGGish: dense layers',
      (4_096, 4_096, 128),
      '[k[-1] for k in vggish.KERNELS.values() if len(k) == 2]',
      _VGGISH_CODE,
    ),
    Number(
      'VGGish: parameters',
      72_141_184,
      'sum(math.prod(k) + k[-1] for k in vggish.KERNELS.values())',
      'derived',
    ),
    Number(
      'VGGish: examples of 10 s, of 998 frames',
      (10, 998),
      "(windows_in(10, 'vggish'), framing.num_frames(160_000, 400, 160))",
      'derived',
    ),
    Number(
      'VGGish: mean and deviation of the embedding of a 1 kHz sine',
      (0.000657, 0.343),
      source=_VGGISH_CODE,
      absent='the published weights are no part of this repository; a twin '
      'with drawn weights is matched instead',
      pattern=r'0\.000657',
    ),
    Number(
      'the published FAD tool: slice and step, s, and slices in 10 s',
      (1.0, 0.5, 19),
      "(embedders.WINDOWINGS['fad_tool'].window_seconds, "
      "embedders.WINDOWINGS['fad_tool'].hop_seconds, "
      "windows_in(10, 'fad_tool'))",
      'FAD, code',
    ),
    Number(
      'KLD as others measure it: ε',
      1e-6,
      'kld.EPSILON',
      'PaSST by audiocraft, code',
    ),
    Number(
      'KLD as others measure it: classes, rate, Hz, segment, s',
      (527, 32_000, 10),
      '(panns.NUM_CLASSES, panns_mel.SAMPLE_RATE, panns_network.SECONDS)',
      'PaSST by audiocraft, code',
    ),
    Number(
      'KLD as others measure it: classifier',
      'PaSST',
      'panns_network.NAME',
      'PaSST by audiocraft, code',
      departs="Cnn14 of PANNs, as audioldm_eval's: a convolutional network "
      'whose published weights are read, of the same classes',
    ),
    Number(
      'PANNs: parameters',
      80_753_615,
      'sum(math.prod(shape) for shape in panns.shapes().values())',
      'PANNs, code',
    ),
    Number(
      'PANNs: window, hop, mel bands, and their ends, Hz',
      (1024, 320, 64, 50, 14_000),
      '(panns_mel.WINDOW_LENGTH, panns_mel.HOP_LENGTH, panns_mel.NUM_MELS, '
      'panns_mel.LOW_HZ, panns_mel.HIGH_HZ)',
      'PANNs, code',
    ),
    Number(
      'MusicCaps: clips, and seconds of each',
      (5_521, 10),
      '(musiccaps.NUM_SONGS, musiccaps.SECONDS)',
      'MusicLM §5.1',
    ),
    Number(
      'MusicLM on MusicCaps: FAD_Trill, FAD_VGG, KLD, MCC, wins',
      (0.44, 4.0, 1.01, 0.51, 312),
      '[published.TABLE_1[2].figures[c] for c in published.COLUMNS]',
      'MusicLM Table 1',
    ),
    Number(
      "rate of MCC's second scorer, CLAP, Hz",
      48_000,
      source='LAION-CLAP, code',
      absent=_NOT_BUILT,
      pattern='laion',
    ),
  ),
  (
    Claim(
      'The Fréchet distance is that of Gaussians in closed form and of the '
      'published package.',
      'Kilgour et al. 2019',
      (
        'metrics/test_fad.py::'
        'test_gaussians_with_diagonal_covariance_have_the_closed_form',
        'metrics/test_fad.py::'
        'test_the_distance_is_that_of_the_published_package',
      ),
    ),
    Claim(
      'Distances of few samples are too large; FAD∞ removes four fifths of '
      'it at 200.',
      'Gui et al. 2024',
      (
        'metrics/test_fad.py::'
        'test_fad_infinity_removes_the_bias_of_200_samples',
      ),
    ),
    Claim(
      'The kernel distance is that of a plain double loop and of the '
      'published toolkit.',
      'Chung et al. 2025',
      (
        'metrics/test_kad.py::test_the_distance_is_that_of_a_plain_double_loop',
        'metrics/test_kad.py::'
        'test_the_distance_is_that_of_the_published_toolkit',
      ),
    ),
    Claim(
      'VGGish is that of its public weights, in the layouts of TF and of '
      'PyTorch.',
      _VGGISH_CODE,
      ('evaluation/test_vggish.py::test_parity_with_the_twin',),
    ),
    Claim(
      'KLD is KL(reference ‖ generated) of softmax scores, averaged over '
      'segments; other ways have names.',
      _METRICS,
      ('metrics/test_kld.py::test_a_variant_is_its_formula',),
    ),
    Claim(
      'MCC is the mean cosine of MuLan between prompts and their music.',
      _METRICS,
      ('metrics/test_mulan_cycle.py::test_figures_are_means_of_cosines',),
      'not measured over MusicCaps; with the MuLan that conditions the music '
      'it is circular, and stands beside the mean over other prompts',
    ),
    Claim(
      'Without a semantic stage, coarse tokens are modelled from those of '
      'MuLan alone; the loss stands beside the whole cascade.',
      'MusicLM, results',
      (
        'token_lm/test_layout.py::test_the_ablation_reads_no_semantic_tokens',
        'commands/test_evaluate.py::test_stages_are_told_apart',
      ),
      "from MuLan tokens of reference clips; the paper's figures of music from "
      'captions are not reproduced',
    ),
    Claim(
      'Damage that is planted in one stage is named by what the stages cost.',
      'ours',
      (
        'evaluation/test_attribution.py::'
        'test_damage_that_is_planted_in_a_stage_is_named',
      ),
    ),
    Claim(
      'Raters compare two clips of one caption on five points; a win is a '
      'preference, strong or weak.',
      'MusicLM §5',
      (
        'experiments/listening_test/test_build.py::'
        'test_every_pair_of_every_clip_is_compared_once',
        'experiments/listening_test/test_preferences.py::'
        'test_wins_count_weak_and_strong_preferences_on_either_side',
      ),
      'no study was made',
    ),
    Claim(
      'Preferences are tested by signed ranks at 0.01, divided by the number '
      'of tests.',
      'MusicLM §5',
      (
        'experiments/listening_test/test_preferences.py::'
        'test_level_is_divided_by_the_tests',
        'experiments/listening_test/test_preferences.py::'
        'test_p_is_scipys_and_none_preferred_is_no_evidence',
      ),
      'divided by the pairs of systems, of which the paper with its 15 shows '
      'fewer; a preference must also hold with prompts as the units',
    ),
    Claim(
      'Clips of MusicCaps are measured by one command, and only figures of one '
      'kind stand in the table of the paper.',
      'MusicLM Table 1',
      (
        'commands/test_evaluate.py::test_musiccaps_is_one_command',
        'evaluation/test_musiccaps.py::'
        'test_only_figures_of_one_kind_stand_in_the_table',
      ),
      'no network of ours has been measured so: its audio is not at hand',
    ),
    Claim(
      'Cnn14 of PANNs is that of its public layout, and its log-mels are those '
      'of librosa.',
      'PANNs, code',
      (
        'evaluation/test_panns.py::test_parity_with_the_twin',
        'evaluation/test_panns.py::test_log_mels_are_those_of_librosa',
      ),
    ),
  ),
)

MEMORISATION = Chapter(
  'Evaluation: memorisation',
  (
    Number(
      'tokens of a span',
      125,
      'round(memorization.SPAN_SECONDS * semantic.layout.semantic_frame_rate)',
      'MusicLM §4.4',
    ),
    Number(
      'prompt, semantic tokens: least and most',
      (0, 250),
      '(continuations.PROMPT_TOKENS[0], continuations.PROMPT_TOKENS[-1])',
      'MusicLM §4.4',
    ),
    Number(
      'tokens that are continued',
      125,
      'continuations.LENGTH',
      'MusicLM §4.4',
    ),
    Number(
      'cost below which spans match',
      0.85,
      'copies.FALSE_MATCHES',
      'MusicLM §4.4',
      departs='theirs is in units of their centroids; ours is found anew for '
      'each codebook, as the cost that this share of held-out spans falls '
      'below',
    ),
    Number(
      'false matches at that cost, %',
      '< 0.01',
      '100 * copies.FALSE_MATCHES',
      'MusicLM §4.4',
      departs='of held-out pieces instead of permuted targets, which are '
      'harder; so small a share could be seen on 30,000 spans only',
    ),
  ),
  (
    Claim(
      'Prompts of training tokens are continued greedily and compared with '
      'what followed, exactly and nearly.',
      'MusicLM §4.4',
      (
        'evaluation/test_continuations.py::'
        'test_planted_copies_are_found_with_few_false_alarms',
        'commands/test_evaluate.py::'
        'test_training_prompts_are_continued_by_the_semantic_model',
      ),
    ),
    Claim(
      'Spans of music made from texts are compared as well, beside those of '
      'held-out pieces.',
      'ours',
      (
        'experiments/tiny_cascade/test_copy_checks.py::'
        'test_real_pieces_that_repeat_the_corpus_excuse_as_much',
      ),
    ),
    Claim(
      'Approximate matches are those that transport over centroids makes '
      'cheap.',
      'MusicLM §4.4',
      (
        'metrics/test_memorization.py::'
        'test_transport_costs_what_an_exact_solver_finds',
        'metrics/test_memorization.py::'
        'test_planted_copies_are_found_with_few_false_alarms',
      ),
    ),
    Claim(
      'Exact copies at any offset are found, and near ones.',
      'ours',
      (
        'metrics/test_memorization.py::test_a_copy_at_any_offset_is_found',
        'experiments/tiny_cascade/test_copy_checks.py::'
        'test_copies_with_slips_fail_though_none_is_exact',
      ),
    ),
  ),
)

CHAPTERS = (METRICS, MEMORISATION)
