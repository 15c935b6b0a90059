"""Do two devices make the same tokens of the same music?

  python experiments/token_agreement/run.py --bundle=DIR --clips=FILE.npy

Tokens of clips (int16 or float32 [N, S] at 24 kHz) on the CPU and on the first
accelerator, by the same frozen networks; the share of equal codes by stream,
and by level, whose residuals carry on what a level before chose. Beside them
stand the tokens of the accelerator at its default precision. Needs jax to see
both: JAX_PLATFORMS=cuda,cpu.
"""

import argparse
import contextlib
import datetime
import json
from pathlib import Path

import jax
import numpy as np

from musiclm_jax.cascade import networks, weights
from musiclm_jax.cascade.tokenizer import Tokenizer
from musiclm_jax.nn import precision
from musiclm_jax.stages import TOKENIZERS

HERE = Path(__file__).parent


def tokens_of(
  bundle: Path, waveform: np.ndarray, device: jax.Device
) -> dict[str, np.ndarray]:
  """Makes all tokens on a device."""
  with jax.default_device(device):
    loaded = {
      stage: networks.build(weights.read(bundle / stage))
      for stage in TOKENIZERS
    }
    return Tokenizer(loaded, None).encode(waveform)


def compare(
  one: dict[str, np.ndarray], other: dict[str, np.ndarray]
) -> dict[str, list[float]]:
  """Stream -> shares of equal codes: of all, then of each level."""
  shares = {}
  for stream, codes in one.items():
    equal = codes == other[stream]
    levels = equal.reshape(-1, equal.shape[-1] if stream != 'semantic' else 1)
    shares[stream] = [float(equal.mean()), *map(float, levels.mean(axis=0))]
  return shares


@contextlib.contextmanager
def inexact():
  """Takes `precision.exact`'s setting away, to show what it does."""
  kept = jax.default_matmul_precision
  precision.jax.default_matmul_precision = lambda _: contextlib.nullcontext()
  try:
    yield
  finally:
    precision.jax.default_matmul_precision = kept


def main() -> None:
  """Compares and writes results.json."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--bundle', type=Path, required=True)
  parser.add_argument('--clips', type=Path, required=True)
  parser.add_argument('--results', type=Path, default=HERE / 'results.json')
  options = parser.parse_args()
  clips = np.load(options.clips)
  if clips.dtype == np.int16:
    clips = (clips / 32768).astype(np.float32)
  here, cpu = jax.devices()[0], jax.devices('cpu')[0]
  reference = tokens_of(options.bundle, clips, cpu)
  result = {
    'date': datetime.date.today().isoformat(),
    'devices': [here.device_kind, cpu.device_kind],
    'jax': jax.__version__,
    'clips': list(clips.shape),
    'exact': compare(reference, tokens_of(options.bundle, clips, here)),
  }
  with inexact():
    tokens = tokens_of(options.bundle, clips, here)
  result['default precision'] = compare(reference, tokens)
  for name in ('exact', 'default precision'):
    for stream, shares in result[name].items():
      parts = ' '.join(f'{share:.4f}' for share in shares)
      print(f'{name:18s} {stream:9s} {parts}')
  options.results.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
  main()
