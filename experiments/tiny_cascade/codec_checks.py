"""The codec's gates: what it keeps of held-out clips, at every level.

clips [N, S] through `encode` and `decode` -> distances per piece and level,
code histograms, round trip -> `codec_*`.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from experiments.tiny_cascade import codec_baselines, gates
from musiclm_jax.dsp.level import rms_dbfs
from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics import codec as codec_metrics

Encode = Callable[[np.ndarray], np.ndarray]  # [N, S] -> [N, T, Q]
Decode = Callable[[np.ndarray], np.ndarray]  # [N, T, Q'] -> [N, S]
_QUIET_DBFS = -60.0
_ROUNDTRIP_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class CodecFigures:
  """What was measured; distances in dB per clip [N].

  Attributes:
    levels: Numbers of quantizer levels that were decoded, rising.
    distances: Of each of them [len(levels), N].
    random_pairs: Between clips of different pieces.
    mean_spectrum: Of each clip to its own mean spectrum.
    vocoder: Of each clip to its 8-band vocoder version.
    si_sdr: At all levels, in dB.
    histograms: Codes per clip, level and entry [N, Q, K].
    roundtrip_error: Largest |decode(encode(x)) - training forward pass|.
    silence_dbfs: Level of what silence becomes.
  """

  levels: Sequence[int]
  distances: np.ndarray
  random_pairs: np.ndarray
  mean_spectrum: np.ndarray
  vocoder: np.ndarray
  si_sdr: np.ndarray
  histograms: np.ndarray
  roundtrip_error: float
  silence_dbfs: float


def measure(
  clips: np.ndarray,
  encode: Encode,
  decode: Decode,
  forward: Decode,
  codebook_size: int,
) -> tuple[CodecFigures, np.ndarray]:
  """Passes held-out clips of different pieces through a codec.

  Args:
    clips: [N, S], whole codec frames long.
    encode: Waveforms to codes.
    decode: Codes, or their first levels, to waveforms.
    forward: The training forward pass, waveforms to waveforms.
    codebook_size: K.

  Returns:
    The figures and the reconstructions at all levels [N, S].
  """
  codes = encode(clips)
  levels = _doublings(codes.shape[2])
  real = [codec_metrics.log_mels(clip) for clip in clips]
  distances = []
  for level in levels:
    decoded = decode(codes[:, :, :level])
    distances.append(
      [
        codec_metrics.distance(mels, codec_metrics.log_mels(clip))
        for mels, clip in zip(real, decoded, strict=True)
      ]
    )
  quiet = np.zeros_like(clips[:1])
  silence = decode(encode(quiet))
  figures = CodecFigures(
    levels=levels,
    distances=np.array(distances),
    random_pairs=codec_baselines.random_pair_distances(clips),
    mean_spectrum=codec_baselines.mean_spectrum_distances(clips),
    vocoder=codec_baselines.vocoder_distances(clips),
    si_sdr=codec_metrics.si_sdr(clips, decoded),
    histograms=codec_metrics.code_histograms(codes, codebook_size),
    roundtrip_error=float(np.abs(forward(clips) - decoded).max()),
    silence_dbfs=float(rms_dbfs(np.ravel(silence))),
  )
  return figures, decoded


def _doublings(num_levels: int) -> list[int]:
  """1, 2, 4, ... and the number of levels itself."""
  powers = [2**k for k in range(num_levels.bit_length())]
  return [level for level in powers if level < num_levels] + [num_levels]


def all_gates(figures: CodecFigures) -> list[gates.Gate]:
  """The four gates of the codec."""
  return [
    _distance_gate(figures),
    _levels_gate(figures),
    _usage_gate(figures),
    _roundtrip_gate(figures),
  ]


def _distance_gate(figures: CodecFigures) -> gates.Gate:
  ours = figures.distances[-1]
  # A ratio of means, resampled together: clips of silence have no ratio.
  limit = gates.LARGEST_CODEC_RATIO
  random_mean = float(figures.random_pairs.mean())
  excess = bootstrap.mean(ours - limit * figures.random_pairs)
  conditions = {'<= 40 % of the distance of random pairs': excess.high <= 0}
  baselines = {
    'mean spectrum': figures.mean_spectrum,
    '8-band vocoder': figures.vocoder,
    'same codec at 1 level': figures.distances[0],
  }
  for name, baseline in baselines.items():
    margin = bootstrap.difference(ours, baseline)
    conditions[f'better than: {name}'] = margin.high < 0
  ratio = bootstrap.Interval(
    *(
      limit + part / random_mean
      for part in (excess.value, excess.low, excess.high)
    )
  )
  return gates.make('codec_distance', ratio, limit, conditions)


def _levels_gate(figures: CodecFigures) -> gates.Gate:
  conditions = {}
  for k in range(1, len(figures.levels)):
    fall = bootstrap.difference(figures.distances[k - 1], figures.distances[k])
    words = f'{figures.levels[k - 1]} -> {figures.levels[k]} levels: falls'
    conditions[words] = fall.low > 0
  whole = bootstrap.difference(figures.distances[0], figures.distances[-1])
  return gates.make('codec_levels', whole, 0.0, conditions)


def _usage_gate(figures: CodecFigures) -> gates.Gate:
  histograms = figures.histograms
  size = histograms.shape[2]

  def smallest(units: np.ndarray) -> float:
    counts = histograms[units].sum(axis=0)
    return float(codec_metrics.perplexity(counts).min()) / size

  frames = int(histograms[:, 0].sum())
  interval = bootstrap.spread(smallest, len(histograms))
  least = gates.SMALLEST_CODEC_USAGE
  return gates.make(
    'codec_usage',
    interval,
    least,
    {
      'perplexity >= 30 % of K on every level': interval.value >= least,
      f'over >= {gates.SMALLEST_CODEC_FRAMES} held-out frames': frames
      >= gates.SMALLEST_CODEC_FRAMES,
    },
  )


def _roundtrip_gate(figures: CodecFigures) -> gates.Gate:
  return gates.make(
    'codec_roundtrip',
    figures.roundtrip_error,
    _ROUNDTRIP_TOLERANCE,
    {
      'decode(encode(x)) is the training forward pass': (
        figures.roundtrip_error <= _ROUNDTRIP_TOLERANCE
      ),
      'silence gives silence': figures.silence_dbfs <= _QUIET_DBFS,
    },
  )


def report_figures(figures: CodecFigures) -> dict:
  """Distances, baselines, SI-SDR and perplexities, for the report."""
  counts = figures.histograms.sum(axis=0)
  return {
    'distance_db_per_levels': {
      str(level): float(row.mean())
      for level, row in zip(figures.levels, figures.distances, strict=True)
    },
    'random_pairs_db': float(figures.random_pairs.mean()),
    'mean_spectrum_db': float(figures.mean_spectrum.mean()),
    'vocoder_db': float(figures.vocoder.mean()),
    'si_sdr_db': bootstrap.mean(figures.si_sdr),
    'perplexity_per_level': codec_metrics.perplexity(counts),
    'codebook_size': counts.shape[-1],
    'frames': int(counts[0].sum()),
    'silence_dbfs': figures.silence_dbfs,
  }
