"""Writes the PyTorch twin of VGGish: the public mirror's layout.

Its 72 million weights are no part of the fixture: both sides draw them by the
same formula. Run under a Python that has torch:

  python experiments/parity/vggish.py tests/fixtures/vggish.npz
"""

import sys

import numpy as np
import torch
from torch import nn

CHANNELS = (64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M')


class Vggish(nn.Module):
  """VGG as the mirror has it, without the ReLU that it adds at the end."""

  def __init__(self):
    super().__init__()
    layers, inputs = [], 1
    for channels in CHANNELS:
      if channels == 'M':
        layers.append(nn.MaxPool2d(2, 2))
        continue
      layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(True)]
      inputs = channels
    self.features = nn.Sequential(*layers)
    self.embeddings = nn.Sequential(
      nn.Linear(512 * 4 * 6, 4096),
      nn.ReLU(True),
      nn.Linear(4096, 4096),
      nn.ReLU(True),
      nn.Linear(4096, 128),
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.features(x).permute(0, 2, 3, 1)
    return self.embeddings(x.reshape(len(x), -1))


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
  """Numbers of mean 0 that look random, float32, of the variance of He."""
  index = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(seed)
  index = (index ^ (index >> 16)) * np.uint32(0x45D9F3B)
  index = (index ^ (index >> 16)) * np.uint32(0x45D9F3B)
  index ^= index >> 16
  uniform = index.astype(np.float64) / 2**32 - 0.5
  fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 3600
  return (uniform * np.sqrt(24 / fan_in)).astype(np.float32).reshape(shape)


def main() -> None:
  """Writes input and output to the path in argv[1]."""
  twin = Vggish().eval()
  with torch.no_grad():
    for k, value in enumerate(twin.state_dict().values()):
      value.copy_(torch.from_numpy(drawn(tuple(value.shape), 1000 * k)))
    x = drawn((2, 96, 64), 7) * 60
    y = twin(torch.from_numpy(x)[:, None])
  np.savez_compressed(
    sys.argv[1],
    input=x,
    output=y.numpy(),
    parameters=np.array(sum(p.numel() for p in twin.parameters())),
    names=np.array(list(twin.state_dict())),
    versions=np.array([torch.__version__]),
  )


if __name__ == '__main__':
  main()
