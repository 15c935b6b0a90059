"""What the loss that sees harmonics costs a training step of `small`.

  python experiments/codec_quality/step_cost.py [--batch_size=2]

Times gradients of both players on noise, in float32, as compiled for this
machine: the paper's terms and those of `configs/soundstream.py:small`, before
the codec feels the discriminators and after. They take turns; the fastest of
a few calls counts, since others may use the machine.
"""

import argparse
import json
import runpy
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from musiclm_jax import configs, stages

_CALLS = 4
_SAMPLES = 24_000
# Of the paper's terms, laid over `small`.
_PAPER = {
  'discriminators': {'stft_windows': (1024,)},
  'loss': {
    'mel_scales': tuple((2**i, 64) for i in range(6, 12)),
    'mel_log_only': False,
    'log_stft_weight': 0.0,
    'waveform_until_adversarial': False,
    'relative_features': False,
  },
}


def _step(batch_size: int, *, paper: bool, opposed: bool) -> Callable:
  """Compiles both players' gradients; returns what runs them once."""
  file = runpy.run_path(str(configs.FOLDER / 'soundstream.py'))
  config = file['get_config']('small')
  config.model.dtype = config.discriminators.dtype = 'float32'
  if paper:
    config.update(_PAPER)
  last = config.schedule.total_steps
  task = stages.build(config).at(last if opposed else 0)
  noise = jax.random.normal(jax.random.key(1), (batch_size, _SAMPLES))
  batch = {'waveform': 0.1 * noise}
  params, collections = jax.jit(task.init)(jax.random.key(0), batch)

  @jax.jit
  def gradients(params, collections, batch):
    out = {}
    for player, loss in task.losses().items():

      def own(subtree, player=player, loss=loss):
        mixed = {**params, player: subtree}
        key = jax.random.key(2)
        return loss(mixed, collections, batch, key, jnp.int32(0))[0]

      out[player] = jax.grad(own)(params[player])
    return out

  compiled = gradients.lower(params, collections, batch).compile()
  return lambda: jax.block_until_ready(compiled(params, collections, batch))


def main() -> None:
  """Prints seconds a step and the ratio, new over paper's."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--batch_size', type=int, default=2)
  options = parser.parse_args()
  for opposed in (False, True):
    steps = {
      name: _step(options.batch_size, paper=paper, opposed=opposed)
      for name, paper in (('paper', True), ('harmonics', False))
    }
    seconds = {name: float('inf') for name in steps}
    for _ in range(_CALLS):
      for name, run in steps.items():
        start = time.perf_counter()
        run()
        seconds[name] = min(seconds[name], time.perf_counter() - start)
    ratio = seconds['harmonics'] / seconds['paper']
    print(
      json.dumps(
        {'opposed': opposed}
        | {name: round(value, 3) for name, value in seconds.items()}
        | {'ratio': round(ratio, 3)}
      )
    )


if __name__ == '__main__':
  main()
