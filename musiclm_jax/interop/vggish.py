"""Published weights of VGGish: a file -> parameters of `evaluation/vggish.py`.

.npz, .safetensors  arrays by the names of TF's checkpoint or of the mirror
.pth                the PyTorch mirror as it is published

TF `vggish/conv1/weights` HWIO and (in, out) are ours; the mirror's
`features.0.weight` is OIHW and `embeddings.0.weight` (out, in).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.interop import weights_file

_ADVICE = (
  "give AudioSet's VGGish as vggish-10086976.pth, or the TF checkpoint's "
  'variables under their names as .npz or .safetensors'
)

# Ours -> (TF's scope below vggish/, the mirror's module).
LAYERS = {
  'conv1': ('conv1', 'features.0'),
  'conv2': ('conv2', 'features.3'),
  'conv3_1': ('conv3/conv3_1', 'features.6'),
  'conv3_2': ('conv3/conv3_2', 'features.8'),
  'conv4_1': ('conv4/conv4_1', 'features.11'),
  'conv4_2': ('conv4/conv4_2', 'features.13'),
  'fc1_1': ('fc1/fc1_1', 'embeddings.0'),
  'fc1_2': ('fc1/fc1_2', 'embeddings.2'),
  'fc2': ('fc2', 'embeddings.4'),
}
KERNELS = {
  'conv1': (3, 3, 1, 64),
  'conv2': (3, 3, 64, 128),
  'conv3_1': (3, 3, 128, 256),
  'conv3_2': (3, 3, 256, 256),
  'conv4_1': (3, 3, 256, 512),
  'conv4_2': (3, 3, 512, 512),
  'fc1_1': (12288, 4096),
  'fc1_2': (4096, 4096),
  'fc2': (4096, 128),
}


def read(path: str | os.PathLike) -> tuple[dict[str, Any], str]:
  """Reads a file of weights.

  Args:
    path: See the module; which layout it has is seen from its names.

  Returns:
    Parameters, layer -> {'kernel', 'bias'} as float32 numpy arrays, and the
    SHA-256 of the file.

  Raises:
    UsageError: If there is no such file, it cannot be read, or a tensor is
      missing, of another shape or not finite.
  """
  path = Path(path)
  tensors, sha256 = weights_file.read(path, 'vggish', _ADVICE)
  return to_params(tensors, str(path)), sha256


def to_params(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, Any]:
  """Turns tensors of either layout into parameters.

  Args:
    tensors: By the names of TF or of the PyTorch mirror.
    source: Of the tensors, for messages.

  Raises:
    UsageError: If one is missing, of another shape or not finite.
  """
  of_tf = any(name.startswith('vggish/') for name in tensors)
  params: dict[str, Any] = {}
  faults = []
  for layer, (scope, module) in LAYERS.items():
    names = (
      (f'vggish/{scope}/weights', f'vggish/{scope}/biases')
      if of_tf
      else (f'{module}.weight', f'{module}.bias')
    )
    if missing := [name for name in names if name not in tensors]:
      faults += [f'{name} is missing' for name in missing]
      continue
    kernel, bias = (np.asarray(tensors[n], np.float32) for n in names)
    if not of_tf:
      kernel = kernel.transpose((2, 3, 1, 0) if kernel.ndim == 4 else None)
    wanted = KERNELS[layer]
    if kernel.shape != wanted or bias.shape != wanted[-1:]:
      faults.append(f'{names[0]} has another shape than {wanted}')
    elif not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
      faults.append(f'{names[0]} holds values that are not finite')
    params[layer] = {'kernel': np.ascontiguousarray(kernel), 'bias': bias}
  if faults:
    raise UsageError(
      f"'{source}' holds no VGGish ({faults[0]}, {len(faults)} faults in all): "
      'give the published weights'
    )
  return params
