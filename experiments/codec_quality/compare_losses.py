"""Compares two trainings of the codec that differ in their loss.

  python experiments/codec_quality/compare_losses.py --workdirs OLD NEW \
    --corpus=DIR

Prints, for five seconds of each piece of the test split, every measure of
both and its difference, new minus old, with bootstrap intervals over pieces.
"""

import argparse
import json

from clips import rendered

from musiclm_jax.cascade import networks
from musiclm_jax.contracts import errors
from musiclm_jax.evaluation.codec import open_coder
from musiclm_jax.metrics import bootstrap, codec


def _words(bounds: bootstrap.Interval) -> str:
  return f'{bounds.value:.2f} [{bounds.low:.2f}, {bounds.high:.2f}]'


def main() -> None:
  """Measures both workdirs' codecs on the same clips."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdirs', nargs=2, required=True)
  parser.add_argument('--corpus', required=True, help='Of rendered music.')
  options = parser.parse_args()
  clips = rendered(options.corpus)
  values = []
  for workdir in options.workdirs:
    network = networks.load(workdir, 'soundstream')
    _, coded = open_coder(network)(clips.waveforms)
    originals, parts = clips.cut(clips.waveforms), clips.cut(coded)
    values.append(
      {
        name: [
          float(measure(a[None], b[None])[0])
          for a, b in zip(originals, parts, strict=True)
        ]
        for name, measure in codec.MEASURES.items()
      }
    )
  old, new = values
  table = {
    name: {
      'old': _words(bootstrap.mean(old[name])),
      'new': _words(bootstrap.mean(new[name])),
      'new - old': _words(bootstrap.difference(new[name], old[name])),
    }
    for name in codec.MEASURES
  }
  print(json.dumps({'clips': len(clips.names), **table}, indent=1))


if __name__ == '__main__':
  try:
    main()
  except errors.UsageError as error:
    raise SystemExit(f'error: {error}') from None
