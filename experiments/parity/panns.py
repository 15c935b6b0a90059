"""Writes the PyTorch twin of PANNs' Cnn14, at an eighth of its width.

Written from its paper in the layout of its public checkpoint. Weights are
drawn by a formula on both sides and are no part of the fixture. Run under a
Python that has torch:

  python experiments/parity/panns.py tests/fixtures/panns.npz
"""

import sys

import numpy as np
import torch
from torch import nn

CHANNELS = (8, 16, 32, 64, 128, 256)
EMBED_DIM = 256
NUM_CLASSES = 527


class ConvBlock(nn.Module):
  """Two convolutions with batch norms."""

  def __init__(self, inputs: int, outputs: int):
    super().__init__()
    self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
    self.bn1 = nn.BatchNorm2d(outputs)
    self.bn2 = nn.BatchNorm2d(outputs)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = torch.relu(self.bn1(self.conv1(x)))
    return torch.relu(self.bn2(self.conv2(x)))


class Cnn14(nn.Module):
  """The network behind its log-mels, without dropout."""

  def __init__(self):
    super().__init__()
    self.bn0 = nn.BatchNorm2d(64)
    inputs = 1
    for block, outputs in enumerate(CHANNELS, 1):
      setattr(self, f'conv_block{block}', ConvBlock(inputs, outputs))
      inputs = outputs
    self.fc1 = nn.Linear(inputs, EMBED_DIM)
    self.fc_audioset = nn.Linear(EMBED_DIM, NUM_CLASSES)

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # [B, 1, T, 64]: the norm is over bands.
    x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
    for block in range(1, len(CHANNELS) + 1):
      x = getattr(self, f'conv_block{block}')(x)
      if block < len(CHANNELS):
        x = nn.functional.avg_pool2d(x, 2)
    x = x.mean(dim=3)
    x = x.amax(dim=2) + x.mean(dim=2)
    embedding = torch.relu(self.fc1(x))
    return embedding, torch.sigmoid(self.fc_audioset(embedding))


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
  """Numbers of mean 0 that look random, float32, of the variance of He."""
  index = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(seed)
  index = (index ^ (index >> 16)) * np.uint32(0x45D9F3B)
  index = (index ^ (index >> 16)) * np.uint32(0x45D9F3B)
  index ^= index >> 16
  uniform = index.astype(np.float64) / 2**32 - 0.5
  fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 600
  return (uniform * np.sqrt(24 / fan_in)).astype(np.float32).reshape(shape)


def weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
  """A tensor; scales and variances of norms lie around 1."""
  value = drawn(shape, seed)
  is_norm_scale = '.bn' in f'.{name}' and name.endswith('.weight')
  if is_norm_scale or name.endswith('.running_var'):
    return 1 + value
  return value


def main() -> None:
  """Writes input and outputs to the path in argv[1]."""
  twin = Cnn14().eval()
  names = [n for n in twin.state_dict() if 'num_batches' not in n]
  with torch.no_grad():
    for k, name in enumerate(names):
      value = twin.state_dict()[name]
      value.copy_(torch.from_numpy(weight(name, tuple(value.shape), 1000 * k)))
    x = drawn((2, 101, 64), 7) * 60
    embedding, scores = twin(torch.from_numpy(x)[:, None])
  np.savez_compressed(
    sys.argv[1],
    input=x,
    embedding=embedding.numpy(),
    scores=scores.numpy(),
    names=np.array(names),
    parameters=np.array(sum(p.numel() for p in twin.parameters())),
    versions=np.array([torch.__version__]),
  )


if __name__ == '__main__':
  main()
