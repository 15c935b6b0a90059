"""Encodes and decodes with EnCodec 24 kHz at 6 kbps; as `ours.py`."""

import importlib.metadata
import math
import os
import sys
import types

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from worker import noise, serve


def macs_of(model: nn.Module, call) -> int:
  """Multiply-adds of the convolutions and LSTMs of a call, from shapes."""
  total = 0

  def count(module, inputs, output):
    nonlocal total
    if isinstance(module, nn.LSTM):  # [T, B, C]
      weights = (p.numel() for p in module.parameters() if p.ndim == 2)
      total += inputs[0].shape[0] * sum(weights)
    else:
      raised = isinstance(module, nn.ConvTranspose1d)
      frames = (inputs[0] if raised else output).shape[-1]
      total += frames * module.weight.numel()

  layers = nn.Conv1d, nn.ConvTranspose1d, nn.LSTM
  hooks = [
    layer.register_forward_hook(count)
    for layer in model.modules()
    if isinstance(layer, layers)
  ]
  call()
  for hook in hooks:
    hook.remove()
  return total


def main() -> None:
  """Serves `encode` and `decode`."""
  # EnCodec reads files with torchaudio, which does not load without CUDA.
  sys.modules['torchaudio'] = types.ModuleType('torchaudio')
  from encodec import EncodecModel

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
  model.set_target_bandwidth(6.0)
  waveform = torch.from_numpy(noise())[None, None]
  with torch.inference_mode():
    frames = model.encode(waveform)
    _, levels, length = frames[0][0].shape
    calls = {
      'encode': lambda: model.encode(waveform),
      'decode': lambda: model.decode(frames),
    }
    codebook = model.quantizer.vq.layers[0].codebook
    nearest = length * levels * math.prod(codebook.shape)
    flops, counter = {}, {}
    for name, call in calls.items():
      flops[name] = 2 * macs_of(model, call)
      with FlopCounterMode(display=False) as counted:
        call()
      counter[name] = counted.get_total_flops()
    flops['encode'] += 2 * nearest
    versions = {
      name: importlib.metadata.version(name) for name in ('torch', 'encodec')
    }
    about = {'flops': flops, 'counter': counter, 'versions': versions}
    serve(about, calls)


if __name__ == '__main__':
  main()
