"""A file of foreign weights -> numpy arrays by name, and its hash.

.npz, .safetensors  arrays by name
.pth, .pt           what PyTorch saves, read without it
"""

import hashlib
from pathlib import Path

import numpy as np

from musiclm_jax.contracts.errors import DAMAGED_NPZ, UsageError
from musiclm_jax.interop import torch_file

SUFFIXES = ('.pth', '.pt', '.npz', '.safetensors')


def read(
  path: Path, flag: str, advice: str, inner: str | None = None
) -> tuple[dict[str, np.ndarray], str]:
  """Reads a file of weights.

  Args:
    path: Of the file, with one of `SUFFIXES`.
    flag: That named it, for messages.
    advice: What to give instead, for messages.
    inner: Name of a dict inside a PyTorch file that holds the weights, where
      there is one.

  Returns:
    Arrays by name, and the SHA-256 of the file.

  Raises:
    UsageError: If there is no such file, or it cannot be read.
  """
  if not path.is_file():
    raise UsageError(f"--{flag}='{path}': there is no such file: {advice}")
  arrays = _arrays(path, flag, advice, inner)
  with path.open('rb') as file:
    return arrays, hashlib.file_digest(file, 'sha256').hexdigest()


def _arrays(
  path: Path, flag: str, advice: str, inner: str | None
) -> dict[str, np.ndarray]:
  from safetensors import SafetensorError

  try:
    if path.suffix == '.npz':
      with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
    if path.suffix == '.safetensors':
      from safetensors.numpy import load_file

      return load_file(path)
    if path.suffix in ('.pth', '.pt'):
      return torch_file.read(path, inner)
  except (*DAMAGED_NPZ, *torch_file.DAMAGED, SafetensorError) as error:
    raise UsageError(
      f"'{path}' cannot be read as weights ({error}): copy it again"
    ) from error
  raise UsageError(
    f"--{flag}='{path}': expected a file that ends in {', '.join(SUFFIXES)}, "
    f"got '{path.suffix}': {advice}"
  )
