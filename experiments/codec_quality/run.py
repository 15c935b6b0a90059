"""Compares our codec with Opus and MP3, level by level.

  python experiments/codec_quality/run.py --workdir=DIR --corpus=DIR \
    --peers=PYTHON [--real=DIR] [--out=DIR]

PYTHON is that of an environment with `requirements.txt` beside this file.
Leaves results.json, curves.png and spectrograms.png in `out`.
"""

import argparse
import dataclasses
import json
import math
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
import pictures
from clips import Clips, real, rendered
from measures import DISTANCES, SLOW_DISTANCES, lag, shifted

from musiclm_jax.cascade import networks
from musiclm_jax.contracts import atomic_file, errors
from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics import codec as codec_metrics

HERE = Path(__file__).parent
RIVAL = 'opus 12'
HEADLINE = 'log_stft'  # chosen before any figure was seen
_CORRELATED = 0.5  # a delay is known where the best correlation is as high
_SLOW_LEVELS = (1, 4, 8, 12)  # for measures that take long
_SCORED_CLIPS = 16  # by ViSQOL, which takes longest
_SHORTEST_SCORED = 48_000  # samples; it refuses clips of less than a second
_DRAWN = {
  'log_stft': 'log-STFT, dB',
  'log_stft_4k': 'log-STFT to 4 kHz, dB',
  'si_sdr': 'SI-SDR, dB',
  'visqol': 'ViSQOL',
}


def _peers(python: str, script: str, *files: Path) -> Mapping:
  done = subprocess.run(
    [python, str(HERE / script), *map(str, files)],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


def _ours(network: networks.Network, clips: Clips) -> tuple[dict, dict, dict]:
  """Codes all clips: setting -> waveforms [N, S], its kbps; of codes."""
  ours = network.model
  codes = _in_batches(network, ours.encode, clips.waveforms)
  bits = math.log2(ours.codebook_size) * ours.frame_rate / 1000
  decoded, rates = {}, {}
  for level in range(1, codes.shape[2] + 1):
    decoded[f'ours {level}'] = _in_batches(
      network, ours.decode, codes[:, :, :level]
    )
    rates[f'ours {level}'] = level * bits
  counts = np.zeros((codes.shape[2], ours.codebook_size), np.int64)
  for row, length in zip(codes, clips.lengths, strict=True):
    frames = row[None, : length // ours.hop_length]
    counts += codec_metrics.code_histograms(frames, ours.codebook_size)[0]
  shares = codec_metrics.perplexity(counts) / ours.codebook_size
  about = {
    'frames': int(counts[0].sum()),
    'perplexity_share': [round(float(share), 3) for share in shares],
  }
  return decoded, rates, about


def _in_batches(
  network: networks.Network, method: Callable, rows: np.ndarray, size: int = 8
) -> np.ndarray:
  """Applies a method of the task to `size` rows at a time, the last padded."""
  function = jax.jit(method)
  out = []
  for first in range(0, len(rows), size):
    index = np.minimum(np.arange(first, first + size), len(rows) - 1)
    part = function(network.params, network.collections, rows[index])
    out.append(np.asarray(part)[: len(rows) - first])
  return np.concatenate(out)


def _aligned(clips: Clips, waveforms: np.ndarray) -> tuple[np.ndarray, dict]:
  """Takes a codec's delay out, the same for all clips; says what is left."""

  def known(waveforms: np.ndarray) -> list[int]:
    pairs = zip(clips.cut(clips.waveforms), clips.cut(waveforms), strict=True)
    return [
      late for late, c in (lag(*pair) for pair in pairs) if c > _CORRELATED
    ]

  lags = known(waveforms)
  delay = round(float(np.median(lags))) if lags else 0
  left = known(shifted(waveforms, delay))
  return shifted(waveforms, delay), {
    'delay': delay,
    'clips': len(lags),
    'clips_within_a_sample': sum(abs(late) <= 1 for late in left),
  }


def _distances(clips: Clips, coded: Mapping[str, np.ndarray]) -> dict:
  """Setting -> measure -> one value a clip."""
  originals = clips.cut(clips.waveforms)
  parts = {name: clips.cut(rows) for name, rows in coded.items()}
  values = {
    name: {
      'si_sdr': [
        float(codec_metrics.si_sdr(a[None], b[None])[0])
        for a, b in zip(originals, rows, strict=True)
      ]
    }
    for name, rows in parts.items()
  }
  for measure, features in {**DISTANCES, **SLOW_DISTANCES}.items():
    kept = [features(clip) for clip in originals]
    for name, rows in parts.items():
      if measure in SLOW_DISTANCES and name not in _slow(coded):
        continue
      values[name][measure] = [
        codec_metrics.distance(a, features(b))
        for a, b in zip(kept, rows, strict=True)
      ]
  return values


def _slow(settings: Iterable[str]) -> list[str]:
  """Those that get slow measures: the baselines and some of our levels."""
  ours = {f'ours {level}' for level in _SLOW_LEVELS}
  return [s for s in settings if s in ours or not s.startswith('ours')]


def _interval(interval: bootstrap.Interval) -> dict:
  return {k: round(v, 4) for k, v in dataclasses.asdict(interval).items()}


def measure(
  clips: Clips, network: networks.Network, python: str
) -> tuple[dict, dict]:
  """Compares all codecs on one set of clips.

  Returns:
    Figures, and setting -> coded clips [N, S].
  """
  coded, rates, about = _ours(network, clips)
  with tempfile.TemporaryDirectory() as folder:
    given, back = Path(folder) / 'clips.npz', Path(folder) / 'coded.npz'
    np.savez(given, waveforms=clips.waveforms, lengths=clips.lengths)
    rivals = _peers(python, 'rivals.py', given, back)
    coded |= dict(np.load(back))
    rates |= rivals['kbps']
    alignment = {}
    for name, rows in coded.items():
      coded[name], alignment[name] = _aligned(clips, rows)
    values = _distances(clips, coded)
    long = np.flatnonzero(np.array(clips.lengths) >= _SHORTEST_SCORED)
    some = np.linspace(0, len(long) - 1, _SCORED_CLIPS).astype(int)
    some = long[np.unique(some)]
    np.savez(
      given,
      waveforms=clips.waveforms[some],
      lengths=np.array(clips.lengths)[some],
    )
    np.savez(back, **{name: coded[name][some] for name in _slow(coded)})
    for name, scores in _peers(python, 'visqol_scores.py', given, back).items():
      values[name]['visqol'] = scores
  classes = clips.classes
  subset = None if classes is None else [classes[i] for i in some]
  codecs = {
    name: {'kbps': round(rates[name], 2), 'alignment': alignment[name]}
    | {
      measure: _interval(
        bootstrap.mean(
          figures, classes=subset if measure == 'visqol' else classes
        )
      )
      for measure, figures in own.items()
    }
    for name, own in values.items()
  }
  best = f'ours {network.model.num_quantizers}'
  margins = {
    measure: _interval(
      bootstrap.difference(
        figures,
        values[RIVAL][measure],
        classes=subset if measure == 'visqol' else classes,
      )
    )
    for measure, figures in values[best].items()
  }
  about |= {'clips': len(clips.names), f'{best} - {RIVAL}': margins}
  return about | {'av': rivals['av'], 'codecs': codecs}, coded


def main() -> None:
  """Measures on rendered and on real music."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True, help='Of the training.')
  parser.add_argument('--corpus', required=True, help='Of rendered music.')
  parser.add_argument('--peers', required=True, help='Python of the peers.')
  parser.add_argument('--real', default='../shared/real_audio')
  parser.add_argument('--out', default=str(HERE))
  options = parser.parse_args()
  network = networks.load(options.workdir, 'soundstream')
  sets = {'rendered': rendered(options.corpus)}
  if Path(options.real).is_dir():
    sets['real'] = real(options.real)
  else:
    print(f'{options.real} is not there: rendered music alone')
  results, shown, out = {}, {}, Path(options.out)
  for name, clips in sets.items():
    results[name], coded = measure(clips, network, options.peers)
    middle = int(np.argsort(np.abs(clips.waveforms).mean(axis=1))[-10])
    best = f'ours {network.model.num_quantizers}'
    shown[f'{name}: original'] = clips.waveforms[middle]
    for setting in (best, RIVAL, 'mp3 16'):
      rate = results[name]['codecs'][setting]['kbps']
      shown[f'{name}: {setting.split()[0]}, {rate:.1f} kbps'] = coded[setting][
        middle
      ]
    print(json.dumps(results[name], indent=1))
  text = json.dumps({'headline': HEADLINE, **results}, indent=1) + '\n'
  atomic_file.write_text(out / 'results.json', text)
  pictures.curves(out / 'curves.png', results, _DRAWN)
  pictures.spectrograms(out / 'spectrograms.png', shown)


if __name__ == '__main__':
  try:
    main()
  except errors.UsageError as error:
    raise SystemExit(f'error: {error}') from None
