"""Writes the PyTorch twin of MuLan's ResNet: torchvision's bottleneck layout.

torchvision itself is not needed: the network is written here with its
modules' names (stride in the 3x3 convolution), one input channel, evaluation
mode. Run under a Python that has torch:

  python experiments/parity/resnet.py tests/fixtures/resnet.npz
"""

import sys

import numpy as np
import torch
from torch import nn

WIDTH = 4
STAGE_BLOCKS = (2, 1, 2)


class Bottleneck(nn.Module):
  """torchvision.models.resnet.Bottleneck."""

  def __init__(self, inputs: int, width: int, stride: int):
    super().__init__()
    outputs = 4 * width
    self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
    self.bn3 = nn.BatchNorm2d(outputs)
    self.downsample = None
    if stride > 1 or inputs != outputs:
      self.downsample = nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False),
        nn.BatchNorm2d(outputs),
      )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = torch.relu(self.bn1(self.conv1(x)))
    y = torch.relu(self.bn2(self.conv2(y)))
    y = self.bn3(self.conv3(y))
    return torch.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
  """torchvision.models.resnet.ResNet up to its mean pool."""

  def __init__(self):
    super().__init__()
    self.conv1 = nn.Conv2d(1, WIDTH, 7, 2, 3, bias=False)
    self.bn1 = nn.BatchNorm2d(WIDTH)
    self.maxpool = nn.MaxPool2d(3, 2, 1)
    inputs, self.layers = WIDTH, []
    for stage, count in enumerate(STAGE_BLOCKS):
      blocks = []
      for block in range(count):
        stride = 2 if stage and not block else 1
        blocks.append(Bottleneck(inputs, WIDTH * 2**stage, stride))
        inputs = 4 * WIDTH * 2**stage
      setattr(self, f'layer{stage + 1}', nn.Sequential(*blocks))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
    for stage in range(len(STAGE_BLOCKS)):
      x = getattr(self, f'layer{stage + 1}')(x)
    return x.mean(dim=(2, 3))


def main() -> None:
  """Writes settings, weights, input and outputs to the path in argv[1]."""
  torch.manual_seed(0)
  twin = ResNet().eval()
  with torch.no_grad():
    for name, value in twin.state_dict().items():
      if name.endswith('running_var'):
        value.copy_(torch.rand_like(value) + 0.5)
      elif value.ndim == 1:
        value.copy_(torch.randn_like(value) * 0.5 + 0.5)
    weights = {
      name: value.clone().numpy()
      for name, value in twin.state_dict().items()
      if not name.endswith('num_batches_tracked')
    }
    # Odd sizes: every stride meets a border.
    x = torch.randn(3, 1, 53, 30)
    evaluated = twin(x)
    trained = twin.train()(x)
  np.savez_compressed(
    sys.argv[1],
    width=np.array(WIDTH),
    stage_blocks=np.array(STAGE_BLOCKS),
    input=x[:, 0].numpy(),
    output=evaluated.numpy(),
    output_training=trained.numpy(),
    stem_mean_after=twin.bn1.running_mean.numpy(),
    versions=np.array([torch.__version__]),
    **{f'weights/{name}': value for name, value in weights.items()},
  )


if __name__ == '__main__':
  main()
