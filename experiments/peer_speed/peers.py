"""One step of a peer, of training or a sequence: `peers.py SCRIPTS VARIANT`.

SCRIPTS is the folder of the peers' benchmarks, which stay where they are: a
variant makes its network and its step, and hands the step over to be timed.
Here it is taken from there.
"""

import argparse
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

from worker import serve

# How a variant begins -> the script that has it.
SCRIPTS = {
  'gpt_eager': 'b_decode',
  'gpt_compile': 'b_decode',
  'audiolm_generate': 'b_decode',
  'gpt': 'a_train_lm',
  'audiolm': 'a_train_lm',
  'train': 'c_codec',
  'spec': 'd_mulan',
}


def take_step(
  scripts: str, variant: str
) -> tuple[Callable[[], object], dict[str, Any]]:
  """Has a variant made; returns its step and what it says of itself."""
  sys.path.insert(0, scripts)
  common = importlib.import_module('common')
  script = next(s for name, s in SCRIPTS.items() if variant.startswith(name))
  module = importlib.import_module(script)
  taken = {}

  def timeit(step, *options, **more):
    taken['step'] = step
    return [1.0], 1.0

  def emit(bench, name, times, first=None, **about):
    taken['about'] = about

  common.timeit, common.emit = timeit, emit
  parser = argparse.ArgumentParser()
  module.args_(parser)
  options = parser.parse_args([])
  options.reps, options.budget = 1, 1.0
  common.VARIANTS[variant](options)
  return taken['step'], taken['about']


def codec_flops(step: Callable[[], object]) -> float:
  """FLOPs of a codec's forward pass, a second of audio: all of its products.

  A forward pass before lets each level of the quantizer see its first batch,
  so that k-means is not among them.
  """
  import torch
  from torch.utils.flop_counter import FlopCounterMode

  cells = dict(zip(step.__code__.co_freevars, step.__closure__, strict=True))
  network, waveform = (cells[name].cell_contents for name in ('m', 'x'))
  network.eval()
  with torch.no_grad():
    network(waveform, return_recons_only=True)
    with FlopCounterMode(display=False) as counted:
      network(waveform, return_recons_only=True)
  network.train()
  return counted.get_total_flops() * network.target_sample_hz / waveform.numel()


def main() -> None:
  """Serves the step of one variant."""
  scripts, variant = sys.argv[1:]
  step, about = take_step(scripts, variant)
  work = about.pop('work')
  unit = about.pop('unit', 'tokens').removesuffix('/s')
  about = {'work': work, 'unit': unit, **about}
  if variant.startswith('train'):
    about['codec_flops'] = codec_flops(step)
  assert isinstance(step, types.FunctionType)
  if variant[-3:] in ('_b1', '_b8'):  # as its network was made
    import torch

    step = torch.inference_mode()(step)
  serve(about, step, warm_ups=1)


if __name__ == '__main__':
  main()
