"""A file of PyTorch tensors -> numpy arrays by name, without PyTorch.

Both formats of `torch.save`: since 1.6 a zip archive (data.pkl, data/<key>),
before that a row of pickles with the raw storages behind. Unpickling builds
tensors and dicts and refuses everything else, so that a file cannot run code.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

DAMAGED = (
  pickle.UnpicklingError,
  struct.error,
  AttributeError,
  IndexError,
  TypeError,
)
_DTYPES = {
  'FloatStorage': np.dtype('<f4'),
  'DoubleStorage': np.dtype('<f8'),
  'HalfStorage': np.dtype('<f2'),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ByteStorage': np.dtype('u1'),
}
_MAGIC = 0x1950A86A20F9469CFC6C  # of the format before 1.6


def read(path: Path, inner: str | None = None) -> dict[str, np.ndarray]:
  """Reads a dict of tensors, such as `state_dict` makes.

  Args:
    path: Of the file.
    inner: Name of the dict that is meant, where it stands inside another, as
      in checkpoints that know their step as well.

  Raises:
    UnpicklingError: If it holds something else than tensors.
    OSError: If it cannot be read.
    ValueError: If it is no dict of tensors.
  """
  with path.open('rb') as file:
    zipped = zipfile.is_zipfile(file)
    file.seek(0)
    found = _read_zip(file) if zipped else _read_pickles(file)
  if not isinstance(found, dict):
    raise ValueError(f'expected a dict of tensors, got {type(found).__name__}')
  if inner is not None and isinstance(found.get(inner), dict):
    found = found[inner]
  return {
    name: tensor.array()
    for name, tensor in found.items()
    if isinstance(tensor, _StridedTensor)
  }


class _Storage:
  """Numbers that tensors are views of; filled when they are known."""

  def __init__(self, dtype: np.dtype):
    self.dtype = dtype
    self.values = np.zeros(0, dtype)


class _StridedTensor:
  """A view of a storage, made an array when the storage is filled."""

  def __init__(self, storage: _Storage, offset: int, shape: tuple, strides):
    self._storage, self._offset = storage, offset
    self._shape, self._strides = shape, strides

  def array(self) -> np.ndarray:
    values = self._storage.values[self._offset :]
    last = sum(
      (n - 1) * step for n, step in zip(self._shape, self._strides, strict=True)
    )
    if last >= len(values) and 0 not in self._shape:
      raise ValueError('a tensor is longer than its storage')
    size = values.itemsize
    return np.lib.stride_tricks.as_strided(
      values, self._shape, [step * size for step in self._strides]
    ).copy()


class _TensorUnpickler(pickle.Unpickler):
  """Knows tensors, storages and ordered dicts, and nothing else."""

  def __init__(self, file: BinaryIO):
    super().__init__(file)
    self.storages: dict[str, _Storage] = {}

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return _rebuild
    if module == 'torch' and name in _DTYPES:
      return _DTYPES[name]
    raise pickle.UnpicklingError(f'{module}.{name} is no part of weights')

  def persistent_load(self, reference: tuple) -> _Storage:
    kind, dtype, key = reference[:3]
    if kind != 'storage':
      raise pickle.UnpicklingError(f'{kind!r} is no storage')
    return self.storages.setdefault(str(key), _Storage(dtype))


def _rebuild(storage, offset, shape, strides, *_) -> _StridedTensor:
  return _StridedTensor(storage, offset, tuple(shape), tuple(strides))


def _read_zip(file: BinaryIO) -> Any:
  with zipfile.ZipFile(file) as archive:
    (main,) = (n for n in archive.namelist() if n.endswith('/data.pkl'))
    folder = main.removesuffix('data.pkl')
    reader = _TensorUnpickler(io.BytesIO(archive.read(main)))
    found = reader.load()
    for key, storage in reader.storages.items():
      data = archive.read(f'{folder}data/{key}')
      storage.values = np.frombuffer(data, storage.dtype)
  return found


def _read_pickles(file: BinaryIO) -> Any:
  if _TensorUnpickler(file).load() != _MAGIC:
    raise ValueError('it is no file of torch.save')
  for _ in range(2):  # version of the protocol, sizes of types
    _TensorUnpickler(file).load()
  reader = _TensorUnpickler(file)
  found = reader.load()
  for key in _TensorUnpickler(file).load():
    storage = reader.storages[str(key)]
    (count,) = struct.unpack('<q', file.read(8))
    size = count * storage.dtype.itemsize
    data = file.read(size)
    if len(data) != size:
      raise ValueError('it ends within a tensor')
    storage.values = np.frombuffer(data, storage.dtype)
  return found
