"""MusicLM's evaluation: what it measured, and what is built of it."""

from paper.rows import Chapter, Claim, Number

_METRICS = 'MusicLM §4.4'
_NO_AUDIO = 'its audio is not public'
_NO_PEOPLE = 'no people were asked'
_NOT_BUILT = 'not built'
_RESULT = 'a figure of theirs; none of it measured here'
_OTHER = "another system's figure, for orientation; nothing here is measured"
_TRILL = (
  'not built: TRILL is a TensorFlow model whose output layer the paper does '
  'not name'
)
_LEAF = 'not built: no weights of a LEAF classifier on AudioSet were published'
_VGGISH_CODE = 'VGGish, code'


def _vggish(quantity: str, paper, source: str = _VGGISH_CODE) -> Number:
  return Number(
    quantity, paper, source=source, absent=_NOT_BUILT, sign='vggish'
  )


METRICS = 'MusicLM §4.4'
_NO_AUDIO = 'its audio is not public'
_NO_PEOPLE = 'no people were asked'
_NOT_BUILT = 'not built'
_RESULT = 'a figure of theirs; none of it measured here'
_OTHER = "another system's figure, for orientation; nothing here is measured"
_TRILL = (
  'not built: TRILL is a TensorFlow model whose output layer the paper does '
  'not name'
)
_LEAF = 'not built: no weights of a LEAF classifier on AudioSet were published'
_VGGISH_CODE = 'VGGish, code'


def _vggish(quantity: str, paper, source: str = _VGGISH_CODE) -> Number:
  return Number(
    quantity, paper, source=source, absent=_NOT_BUILT, sign='vggish'
  )


DATA = Chapter(
  'Evaluation: MusicCaps and people',
  tuple(
    Number(quantity, paper, source='MusicLM §4.3, App. A', absent=_NO_AUDIO)
    for quantity, paper in (
      ('clips of MusicCaps', 5_521),
      ('of them for evaluation, and training', (2_858, 2_663)),
      ('length of a clip, s', 10),
      ('clips of the balanced set', 1_000),
      ('musicians, sentences, aspects', '10, about 4, about 11'),
    )
  )
  + tuple(
    Number(quantity, paper, source='MusicLM §5, App. B', absent=_NO_PEOPLE)
    for quantity, paper in (
      ('ratings, and for each source', (1_200, 600)),
      ('points of the scale', 5),
      ('level of the Wilcoxon test', '0.01 / 15'),
      ('MusicLM beats the reference, %', 27),
    )
  ),
)

METRICS = Chapter(
  'Evaluation: FAD, KLD, MCC',
  (
    Number(
      'embedders of FAD',
      'TRILL and VGGish',
      source=_METRICS,
      absent=_TRILL + '; VGGish is not built either',
      sign='frechet',
    ),
    Number(
      "TRILL's outputs, widths",
      (512, 12_288),
      source='TRILL, memory',
      absent=_TRILL,
    ),
    Number(
      'classifier of KLD',
      'LEAF on AudioSet',
      source=_METRICS,
      absent=_LEAF,
      sign='kld',
    ),
    Number(
      'LEAF: filters, kernel and stride in samples',
      (40, 401, 160),
      source='LEAF, code',
      absent=_LEAF,
    ),
    Number(
      'LEAF: PCEN α, s, δ',
      (0.96, 0.04, 2),
      source='LEAF, code',
      absent=_LEAF,
    ),
    Number(
      'LEAF: band, Hz, and rate',
      (60, 7_800, 16_000),
      source='LEAF, code',
      absent=_LEAF,
    ),
    Number(
      'MCC',
      'mean cosine of text and music',
      source=_METRICS,
      absent='not built over MusicCaps; MuLan scores gate the demo, and are '
      'circular',
    ),
    _vggish('VGGish: rate, Hz', 16_000),
    _vggish('VGGish: window, hop, FFT, samples', (400, 160, 512)),
    _vggish('VGGish: mel bands, and their ends, Hz', (64, 125, 7_500)),
    _vggish('VGGish: offset of the logarithm', 0.01),
    _vggish('VGGish: frames of an example, s', (96, 0.96)),
    _vggish('VGGish: channels', (64, 128, 256, 256, 512, 512)),
    _vggish('VGGish: dense layers', (4_096, 4_096, 128)),
    _vggish('VGGish: parameters', 72_141_184, 'derived'),
    _vggish('VGGish: examples of 10 s, of 998 frames', 10, 'derived'),
    _vggish(
      'VGGish: mean and deviation of the embedding of a 1 kHz sine',
      (0.000657, 0.343),
    ),
    _vggish(
      'the published FAD tool: slice and step, s, and slices in 10 s',
      (1.0, 0.5, 19),
      'FAD, code',
    ),
    Number(
      'KLD as others measure it: classes, rate, segment, ε',
      '527, 32 kHz, 10 s, 1e-6',
      source='PaSST by audiocraft, code',
      absent=_NOT_BUILT,
      sign='passt',
    ),
    Number(
      "rate of MCC's second judge, CLAP, Hz",
      48_000,
      source='LAION-CLAP, code',
      absent=_NOT_BUILT,
    ),
  ),
)

RESULTS = Chapter(
  'Evaluation: figures of MusicLM',
  tuple(
    Number(quantity, paper, source='MusicLM §5', absent=_RESULT)
    for quantity, paper in (
      ('FAD by TRILL: Riffusion, Mubert, MusicLM', (0.76, 0.45, 0.44)),
      ('FAD by VGGish: the same', (13.4, 9.6, 4.0)),
      ('KLD: the same', (1.19, 1.58, 1.01)),
      ('MCC: the same', (0.34, 0.32, 0.51)),
      ('wins: the same, and MusicCaps', (158, 97, 312, 472)),
      (
        'without the semantic stage: FAD TRILL, VGGish, KLD, MCC',
        (0.42, 4.0, 1.05, 0.49),
      ),
    )
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
      'prompt, semantic tokens',
      '0 to 250',
      source='MusicLM §4.4',
      absent=_NOT_BUILT,
      sign='sinkhorn',
    ),
    Number(
      'cost below which spans match',
      0.85,
      source='MusicLM §4.4',
      absent='not built; it is in units of their centroids, so it would have '
      'to be found anew',
      sign='sinkhorn',
    ),
    Number(
      'false matches at that cost, %',
      '< 0.01',
      source='MusicLM §4.4',
      absent=_NOT_BUILT,
      sign='sinkhorn',
    ),
    Number(
      'exact and approximate matches, %',
      '< 0.2, about 1',
      source='MusicLM §5, §8',
      absent=_RESULT,
    ),
    Number(
      'mean entropy of tokens, and of close matches, bits',
      (4.6, 1.0),
      source='MusicLM §5',
      absent=_RESULT,
    ),
  ),
  (
    Claim(
      'Spans of music made from texts are compared, beside those of held-out '
      'pieces; the paper continues training prompts.',
      'MusicLM §4.4',
      (
        'experiments/tiny_cascade/test_copy_checks.py::'
        'test_real_pieces_that_repeat_the_corpus_excuse_as_much',
      ),
      'prompts of training tokens are not built',
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

LATER = Chapter(
  'Figures of other systems on MusicCaps',
  tuple(
    Number(
      f'{system}: FAD by VGGish, KL, CLAP',
      figures,
      source=source,
      absent=_OTHER,
    )
    for system, figures, source in (
      ('Mousai', '7.5, 1.59, 0.23', 'MusicGen, notes'),
      ('Riffusion', '14.8, 2.06, 0.19', 'MusicGen, notes'),
      ('Noise2Music, waveform', '2.134', 'a web page'),
      ('Noise2Music, spectrogram', '3.840', 'a web page'),
      ('MusicGen 300M', '3.1, 1.28, 0.31', 'MusicGen, notes'),
      ('MusicGen 1.5B', '3.4, 1.23, 0.32', 'MusicGen, notes'),
      ('MusicGen 3.3B', '3.8, 1.22, 0.31', 'MusicGen, notes'),
      ('MusicGen 1.5B, melody', '5.0, 1.31, 0.28', 'MusicGen, notes'),
      ('MusicGen small, released', '4.88, 1.42, 0.27', 'its model card'),
      ('MusicGen medium, released', '5.14, 1.38, 0.28', 'its model card'),
      ('MusicGen large, released', '5.48, 1.37, 0.28', 'its model card'),
      ('MusicGen melody, released', '4.93, 1.41, 0.27', 'its model card'),
      ('MAGNeT small, 10 s', '4.22, 1.11, 0.28', 'its model card'),
      ('MAGNeT medium, 10 s', '4.61, 1.14, 0.28', 'its model card'),
      ('MAGNeT 300M, its paper', '3.3, 1.12, 0.31', 'memory'),
      ('MAGNeT 1.5B, its paper', '4.0, 1.15, 0.29', 'memory'),
      ('MusicGen 1.5B, run again', '4.89, 1.35, 0.291', 'AudioLDM 2, notes'),
      ('MAGNeT small, 30 s', '4.35, 1.17, 0.28', 'its model card'),
      ('MAGNeT medium, 30 s', '4.63, 1.20, 0.28', 'its model card'),
      ('AudioLDM 2-Full', '3.13, 1.20, 0.301', 'AudioLDM 2, notes'),
      ('AudioLDM 2-MSD', '4.47, 1.32, 0.294', 'AudioLDM 2, notes'),
      ('AudioLDM-M', '3.20, 1.29, 0.360', 'AudioLDM 2, notes'),
      ('MeLoDy', '5.41', 'notes'),
      ('JEN-1', '2.0, 1.29, 0.33', 'CALM, notes'),
      ('MusicFlow', '2.69, 1.23, 0.52', 'CALM, notes'),
      ('CALM', '2.14, 1.30, 0.44', 'CALM, notes'),
      ('recordings through AudioMAE', '2.18, 0.27, 0.257', 'AudioLDM 2, notes'),
    )
  )
  + tuple(
    Number(
      f'{system}: FD by OpenL3, KL, CLAP',
      figures,
      source=source,
      absent=_OTHER,
    )
    for system, figures, source in (
      ('Stable Audio 1', (108.69, 0.80, 0.46), 'Stable Audio, notes'),
      ('MusicGen large', (197.12, 0.85, 0.36), 'Stable Audio, notes'),
      ('AudioLDM 2 large', (339.25, 1.46, 0.30), 'Stable Audio, notes'),
      ('recordings, and through its VAE', '101.47, 117.52', 'likewise'),
      (
        'Magenta RealTime (Song Describer, 47 s)',
        (72.14, 0.47, 0.35),
        'its paper, notes',
      ),
      ('Stable Audio Open (likewise)', (96.51, 0.55, 0.41), 'likewise'),
      ('MusicGen stereo large (likewise)', (190.47, 0.52, 0.31), 'likewise'),
    )
  )
  + (
    Number(
      'ROC-AUC on MagnaTagATune, zero-shot, MuQ-MuLan and LAION-CLAP',
      (0.793, 0.739),
      source='MuQ, notes',
      absent=_OTHER,
    ),
  ),
)

CHAPTERS = (DATA, METRICS, RESULTS, MEMORISATION, LATER)
