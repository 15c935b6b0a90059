"""A published BERT as MuLan's text tower: named tensors -> parameters.

encoder.layer.<i>.….weight (out, in) -> transformer/layers/… [layers, in, out]
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.mulan import bert_checkpoint

_NAMED = 3  # tensors that an error lists
_TABLES = {
  'token': 'embeddings.word_embeddings.weight',
  'position': 'embeddings.position_embeddings.weight',
  'segment': 'embeddings.token_type_embeddings.weight',
}
_NORMS = {
  'attention_norm': 'attention.output.LayerNorm',
  'mlp_norm': 'output.LayerNorm',
}
_PROJECTIONS = {
  'attention': {
    'query': 'attention.self.query',
    'key': 'attention.self.key',
    'value': 'attention.self.value',
    'out': 'attention.output.dense',
  },
  'mlp': {'wide': 'intermediate.dense', 'narrow': 'output.dense'},
}


def read(
  folder: str | os.PathLike, tower: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, int]]:
  """Reads a checkpoint folder and checks every tensor in it.

  Args:
    folder: See `bert_checkpoint`.
    tower: Arguments of the `TextTower` that shall hold it, which are compared
      with the checkpoint; without config.json they tell `num_heads`.

  Returns:
    Parameters of `TextTower`, nested dicts of float32 numpy arrays, and the
    sizes that it must have.

  Raises:
    UsageError: If a file or tensor is missing, spare, unreadable or of
      another shape, if the checkpoint is no uncased BERT with exact GELU, or
      if the tower has other sizes (the config keys to set are named).
  """
  found = bert_checkpoint.read(folder, int((tower or {}).get('num_heads', 0)))
  settings = dict(found.settings)
  path = found.folder / bert_checkpoint.TENSORS
  _check_tensors(path, found.tensors, _shapes(settings))
  if tower is not None:
    _check_tower(found.folder, settings, tower)
  return _params(found.tensors, settings), settings


def _shapes(settings: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
  """Names every tensor with its shape in the layout (out, in)."""
  dim, mlp_dim = settings['embed_dim'], settings['mlp_dim']
  shapes = {
    _TABLES['token']: (settings['vocab_size'], dim),
    _TABLES['position']: (settings['max_length'], dim),
    _TABLES['segment']: (2, dim),
  }
  outs = {'wide': (mlp_dim, dim), 'narrow': (dim, mlp_dim)}
  norms = ['embeddings.LayerNorm']
  for layer in range(settings['num_layers']):
    prefix = f'encoder.layer.{layer}.'
    norms += [prefix + name for name in _NORMS.values()]
    for part in _PROJECTIONS.values():
      for ours, theirs in part.items():
        shape = outs.get(ours, (dim, dim))
        shapes[f'{prefix}{theirs}.weight'] = shape
        shapes[f'{prefix}{theirs}.bias'] = shape[:1]
  for name in norms:
    shapes[f'{name}.weight'] = shapes[f'{name}.bias'] = (dim,)
  return shapes


def _check_tensors(
  path: Path,
  tensors: Mapping[str, np.ndarray],
  shapes: Mapping[str, tuple[int, ...]],
) -> None:
  """Compares names and shapes, all of them before the first complaint."""
  wrong = [
    f'{name} {tensors[name].shape} instead of {shape}'
    for name, shape in shapes.items()
    if name in tensors and tensors[name].shape != shape
  ]
  faults = {
    'missing': [name for name in shapes if name not in tensors],
    'of another shape': wrong,
    'unused': sorted(tensors.keys() - shapes.keys()),
  }
  told = '; '.join(
    f'{len(names)} {fault}: {_some(names)}'
    for fault, names in faults.items()
    if names
  )
  if told:
    raise UsageError(
      f"'{path}': expected {len(shapes)} tensors of a BertModel, "
      f'came {len(tensors)} ({told}): choose a whole checkpoint '
      'whose config.json belongs to it'
    )
  for name, tensor in tensors.items():
    if tensor.dtype.kind != 'f' or not np.isfinite(tensor).all():
      raise UsageError(
        f"'{path}': {name} ({tensor.dtype}) holds something else "
        'than finite floats: copy or convert the checkpoint again'
      )


def _some(names: list[str]) -> str:
  more = len(names) - _NAMED
  return ', '.join(names[:_NAMED]) + (f' and {more} more' if more > 0 else '')


def _check_tower(
  folder: Path, settings: Mapping[str, int], tower: Mapping[str, Any]
) -> None:
  """Names the config keys that make a tower of the checkpoint's sizes."""
  differing = [name for name, size in settings.items() if tower[name] != size]
  if differing:
    ours = ', '.join(f'{name} {tower[name]}' for name in differing)
    keys = ' '.join(
      f'--config.model.text.{name}={settings[name]}' for name in differing
    )
    raise UsageError(
      f"the text tower has {ours}, the checkpoint '{folder}' has other sizes: "
      f'set {keys}'
    )


def _params(
  tensors: Mapping[str, np.ndarray], settings: Mapping[str, int]
) -> dict[str, Any]:
  """Stacks the layers and turns kernels from (out, in) to `Einsum`'s."""
  dim, heads = settings['embed_dim'], settings['num_heads']
  into_heads, from_heads = (dim, heads, -1), (heads, -1, dim)
  kernels = dict.fromkeys(('query', 'key', 'value'), into_heads)
  kernels |= {'out': from_heads}

  def stack(name: str, shape: tuple[int, ...] = ()) -> np.ndarray:
    rows = [
      np.asarray(tensors[f'encoder.layer.{layer}.{name}'], np.float32).T
      for layer in range(settings['num_layers'])
    ]
    return np.stack([row.reshape(shape or row.shape) for row in rows])

  def project(ours: str, theirs: str) -> dict[str, np.ndarray]:
    bias = (heads, -1) if kernels.get(ours) == into_heads else ()
    return {
      'kernel': stack(f'{theirs}.weight', kernels.get(ours, ())),
      'bias': stack(f'{theirs}.bias', bias),
    }

  layers: dict[str, Any] = {
    part: {ours: project(ours, theirs) for ours, theirs in names.items()}
    for part, names in _PROJECTIONS.items()
  }
  for ours, theirs in _NORMS.items():
    layers[ours] = {
      'scale': stack(f'{theirs}.weight'),
      'bias': stack(f'{theirs}.bias'),
    }
  params: dict[str, Any] = {
    ours: np.asarray(tensors[theirs], np.float32)
    for ours, theirs in _TABLES.items()
  }
  params['norm'] = {
    'scale': np.asarray(tensors['embeddings.LayerNorm.weight'], np.float32),
    'bias': np.asarray(tensors['embeddings.LayerNorm.bias'], np.float32),
  }
  return params | {'transformer': {'layers': layers}}
