"""Arrays by name -> a safetensors file, rounded or as they are, and back.

float32   as they are
bfloat16  floating arrays rounded to it; what is no number of that kind stays
int8      large matrices among the parameters as int8 and a scale a channel,
          '<name>#scale'; other floating arrays as bfloat16

Reading gives float32 again. What was rounded once is not changed by rounding it
to the same type again: a network can be rounded, make tokens, and be stored.
"""

import functools
from collections.abc import Mapping
from typing import Literal

import numpy as np

DType = Literal['float32', 'bfloat16', 'int8']
DTYPES: tuple[DType, ...] = ('float32', 'bfloat16', 'int8')
_SCALE = '#scale'
_LARGE = 4096  # numbers of a matrix that is worth its scales
_TOP = 127
_KINDS_OF_NUMBERS = {
  'F64': 'float64',
  'F32': 'float32',
  'F16': 'float16',
  'I64': 'int64',
  'I32': 'int32',
  'I16': 'int16',
  'I8': 'int8',
  'U64': 'uint64',
  'U32': 'uint32',
  'U16': 'uint16',
  'U8': 'uint8',
  'BOOL': 'bool',
}


def encode(
  arrays: Mapping[str, np.ndarray], dtype: DType
) -> dict[str, np.ndarray]:
  """Rounds arrays to what a file of this type stores of them.

  Args:
    arrays: By name; those of 'params/…' are the parameters.
    dtype: See above.

  Returns:
    Name -> array, and name + '#scale' -> its scales [..., 1, ...].
  """
  stored = {}
  for name, array in arrays.items():
    array = np.asarray(array, order='C')
    is_float = np.issubdtype(array.dtype, np.floating)
    large = array.ndim >= 2 and array.size >= _LARGE
    if dtype == 'float32' or not is_float:
      stored[name] = array
    elif dtype == 'int8' and large and name.startswith('params/'):
      longest = int(np.argmax(array.shape))
      stored[name], stored[name + _SCALE] = quantize(array, longest)
    else:
      stored[name] = array.astype(_bfloat16())
  return stored


def decode(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Undoes `encode`; what was rounded comes back as float32."""
  arrays = {}
  for name, array in stored.items():
    if name.endswith(_SCALE):
      continue
    scale = stored.get(name + _SCALE)
    if scale is not None:
      array = array.astype(np.float32) * scale.astype(np.float32)
    elif array.dtype == _bfloat16():
      array = array.astype(np.float32)
    arrays[name] = array
  return arrays


def read(data: bytes) -> dict[str, np.ndarray]:
  """The arrays of a safetensors file whose arrays `encode` has made.

  Raises:
    Exception: If it is damaged.
  """
  from safetensors import deserialize

  stored = {}
  for name, tensor in deserialize(data):
    kind = tensor['dtype']
    dtype = _bfloat16() if kind == 'BF16' else _KINDS_OF_NUMBERS[kind]
    array = np.frombuffer(tensor['data'], dtype)
    stored[name] = array.reshape(tensor['shape'])
  return decode(stored)


@functools.cache
def _bfloat16() -> np.dtype:
  """The type, which numpy itself does not have."""
  import jax

  return np.dtype(jax.numpy.bfloat16)


def quantize(matrix: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
  """Rounds a matrix to int8, with a scale a channel.

  A scale has 8 significant bits, so that its 127-fold is exact in float32: the
  largest number of a channel becomes ±127, and dequantized numbers are
  quantized to the same ones again.

  Args:
    matrix: Any shape.
    axis: Of the numbers that share a scale.

  Returns:
    int8 of the same shape, and the scales, bfloat16, 1 long at `axis`.
  """
  matrix = matrix.astype(np.float32)
  largest = np.abs(matrix).max(axis=axis, keepdims=True)
  scale = (largest / np.float32(_TOP)).astype(_bfloat16())
  divisor = np.where(scale > 0, scale.astype(np.float32), np.float32(1.0))
  steps = np.clip(np.rint(matrix / divisor), -_TOP, _TOP)
  return steps.astype(np.int8), scale
