"""Published weights of PANNs' Cnn14: a file -> parameters of the Flax network.

Names are those of the PyTorch checkpoint, which holds them under `model`:
`conv_block1.conv1.weight` OIHW and its batch norm `conv_block1.bn1.*` become
one convolution HWIO with a bias, `bn0.*` a scale and an offset of each band,
`fc1.weight` and `fc_audioset.weight` are (out, in). The spectrogram's own
tensors (`spectrogram_extractor.*`, `logmel_extractor.*`) are not read.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.interop import weights_file

CHANNELS = (64, 128, 256, 512, 1024, 2048)
NUM_MELS = 64
EMBED_DIM = 2048
NUM_CLASSES = 527
_EPSILON = 1e-5  # of PyTorch's batch norm
_ADVICE = "give 'Cnn14_mAP=0.431.pth' as its authors published it"


def read(path: str | os.PathLike) -> tuple[dict[str, Any], str]:
  """Reads a file of weights.

  Args:
    path: The checkpoint, or its tensors as .npz or .safetensors.

  Returns:
    Parameters as float32 numpy arrays, and the SHA-256 of the file.

  Raises:
    UsageError: If there is no such file, it cannot be read, or a tensor is
      missing, of another shape or not finite.
  """
  path = Path(path)
  tensors, sha256 = weights_file.read(path, 'panns', _ADVICE, 'model')
  return to_params(tensors, str(path)), sha256


def shapes(
  channels: Sequence[int] = CHANNELS, embed_dim: int = EMBED_DIM
) -> dict[str, tuple[int, ...]]:
  """Names and shapes of the tensors that are learned.

  Args:
    channels: Of each block.
    embed_dim: Width of the embedding.
  """
  found: dict[str, tuple[int, ...]] = {}

  def norm(name: str, width: int) -> None:
    found.update({f'{name}.weight': (width,), f'{name}.bias': (width,)})

  norm('bn0', NUM_MELS)
  last = 1
  for block, width in enumerate(channels, 1):
    for layer in (1, 2):
      found[f'conv_block{block}.conv{layer}.weight'] = (width, last, 3, 3)
      norm(f'conv_block{block}.bn{layer}', width)
      last = width
  for name, inputs, outputs in (
    ('fc1', last, embed_dim),
    ('fc_audioset', embed_dim, NUM_CLASSES),
  ):
    found[f'{name}.weight'] = (outputs, inputs)
    found[f'{name}.bias'] = (outputs,)
  return found


def to_params(
  tensors: Mapping[str, np.ndarray],
  source: str,
  channels: Sequence[int] = CHANNELS,
  embed_dim: int = EMBED_DIM,
) -> dict[str, Any]:
  """Turns the checkpoint's tensors into parameters.

  Args:
    tensors: By the checkpoint's names.
    source: Of the tensors, for messages.
    channels: Of each block.
    embed_dim: Width of the embedding.

  Raises:
    UsageError: If one is missing, of another shape or not finite.
  """
  wanted = shapes(channels, embed_dim)
  for name in list(wanted):
    if name.endswith('.weight') and '.bn' in f'.{name}':
      norm = name.removesuffix('.weight')
      wanted[f'{norm}.running_mean'] = wanted[name]
      wanted[f'{norm}.running_var'] = wanted[name]
  faults = [
    fault
    for name, shape in wanted.items()
    if (fault := _fault(tensors.get(name), name, shape))
  ]
  if faults:
    raise UsageError(
      f"'{source}' holds no Cnn14 of PANNs ({faults[0]}, {len(faults)} faults "
      f'in all): {_ADVICE}'
    )
  scale, offset = _norm(tensors, 'bn0')
  params: dict[str, Any] = {
    'input_scale': scale.astype(np.float32),
    'input_offset': offset.astype(np.float32),
  }
  for block in range(1, len(channels) + 1):
    for layer in (1, 2):
      scale, offset = _norm(tensors, f'conv_block{block}.bn{layer}')
      kernel = tensors[f'conv_block{block}.conv{layer}.weight']
      kernel = np.asarray(kernel, np.float64).transpose(2, 3, 1, 0)
      params[f'conv_block{block}_conv{layer}'] = {
        'kernel': (kernel * scale).astype(np.float32),
        'bias': offset.astype(np.float32),
      }
  for name in ('fc1', 'fc_audioset'):
    kernel = np.asarray(tensors[f'{name}.weight'], np.float32)
    params[name] = {
      'kernel': np.ascontiguousarray(kernel.T),
      'bias': np.asarray(tensors[f'{name}.bias'], np.float32),
    }
  return params


def _fault(
  tensor: np.ndarray | None, name: str, shape: tuple[int, ...]
) -> str | None:
  """What is wrong with a tensor."""
  if tensor is None:
    return f'{name} is missing'
  if np.shape(tensor) != shape:
    return f'{name} has another shape than {shape}'
  if not np.isfinite(tensor).all():
    return f'{name} holds values that are not finite'
  return None


def _norm(
  tensors: Mapping[str, np.ndarray], name: str
) -> tuple[np.ndarray, np.ndarray]:
  """Scale and offset that a batch norm amounts to, float64."""
  weight, bias, mean, variance = (
    np.asarray(tensors[f'{name}.{part}'], np.float64)
    for part in ('weight', 'bias', 'running_mean', 'running_var')
  )
  scale = weight / np.sqrt(variance + _EPSILON)
  return scale, bias - mean * scale
