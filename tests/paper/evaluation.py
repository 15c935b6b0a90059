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


def _vggish(quantity: str, paper, source: str = _VGGISH_CODE) -> Number:
  return Number(
    quantity, paper, source=source, absent=_NOT_BUILT, pattern='vggish'
  )


METRICS = Chapter(
  'Evaluation: FAD, KLD, MCC',
  (
    Number(
      'embedders of FAD',
      'TRILL and VGGish',
      source=_METRICS,
      absent=_TRILL + '; VGGish is not built either',
      pattern='frechet',
    ),
    Number(
      "TRILL's outputs, widths",
      (512, 12_288),
      source='TRILL, memory',
      absent=_TRILL,
      pattern='trill',
    ),
    Number(
      'classifier of KLD',
      'LEAF on AudioSet',
      source=_METRICS,
      absent=_LEAF,
      pattern='kld',
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
    Number(
      'MCC',
      'mean cosine of text and music',
      source=_METRICS,
      absent='not built over MusicCaps; MuLan scores gate the demo, and are '
      'circular',
      pattern='mulan_cycle',
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
      pattern='passt',
    ),
    Number(
      "rate of MCC's second scorer, CLAP, Hz",
      48_000,
      source='LAION-CLAP, code',
      absent=_NOT_BUILT,
      pattern='laion',
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
      'prompt, semantic tokens',
      '0 to 250',
      source='MusicLM §4.4',
      absent=_NOT_BUILT,
      pattern='sinkhorn',
    ),
    Number(
      'cost below which spans match',
      0.85,
      source='MusicLM §4.4',
      absent='not built; it is in units of their centroids, so it would have '
      'to be found anew',
      pattern='sinkhorn',
    ),
    Number(
      'false matches at that cost, %',
      '< 0.01',
      source='MusicLM §4.4',
      absent=_NOT_BUILT,
      pattern='sinkhorn',
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

CHAPTERS = (METRICS, MEMORISATION)
