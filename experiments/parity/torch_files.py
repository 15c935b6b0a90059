"""Writes small files of `torch.save` in both of its formats, as bytes.

Run under a Python that has torch:

  python experiments/parity/torch_files.py tests/fixtures/torch_files.npz
"""

import io
import sys

import numpy as np
import torch


def saved(tensors: dict[str, torch.Tensor], zipped: bool) -> np.ndarray:
  memory = io.BytesIO()
  torch.save(tensors, memory, _use_new_zipfile_serialization=zipped)
  return np.frombuffer(memory.getvalue(), np.uint8)


def main() -> None:
  """Writes the files and what is in them to the path in argv[1]."""
  torch.manual_seed(0)
  layer = torch.nn.Linear(3, 2)
  shared = torch.arange(24.0).reshape(4, 6)
  tensors = {
    'layer.weight': layer.weight.detach(),
    'layer.bias': layer.bias.detach(),
    'transposed': shared.T,
    'part': shared[1:, 2:4],
    'count': torch.tensor(7),
  }
  np.savez_compressed(
    sys.argv[1],
    zipped=saved(tensors, True),
    pickled=saved(tensors, False),
    versions=np.array([torch.__version__]),
    **{f'tensors/{name}': x.numpy() for name, x in tensors.items()},
  )


if __name__ == '__main__':
  main()
