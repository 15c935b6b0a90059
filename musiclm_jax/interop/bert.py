"""A published BERT as MuLan's text tower: a folder -> parameters.

model.safetensors  tensors as BertModel names them, kernels (out, in)
vocab.txt          word pieces, one a line
config.json        optional: sizes, heads, activation

encoder.layer.<i>.….weight (out, in) -> transformer/layers/… [layers, in, out]
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from musiclm_jax.contracts.errors import UsageError

TENSORS = 'model.safetensors'
VOCABULARY = 'vocab.txt'
CONFIG = 'config.json'
_PREFIX = 'bert.'
# Heads of other tasks, and an index that is no weight.
_IGNORED = ('pooler.', 'cls.', 'embeddings.position_ids')
# What the tower computes; another value in config.json is another network.
_COMPUTED = {
  'model_type': 'bert',
  'hidden_act': 'gelu',
  'position_embedding_type': 'absolute',
  'layer_norm_eps': 1e-12,
  'is_decoder': False,
}
_SIZES = {  # ours -> theirs in config.json
  'vocab_size': 'vocab_size',
  'max_length': 'max_position_embeddings',
  'num_layers': 'num_hidden_layers',
  'embed_dim': 'hidden_size',
  'num_heads': 'num_attention_heads',
  'mlp_dim': 'intermediate_size',
}
_LAYER_NUMBER = re.compile(r'encoder\.layer\.(\d+)\.')
_NAMED = 3  # tensors that an error lists
_TABLES = {  # ours -> theirs, as below
  'token': 'embeddings.word_embeddings.weight',
  'position': 'embeddings.position_embeddings.weight',
  'segment': 'embeddings.token_type_embeddings.weight',
}
_NORM = 'embeddings.LayerNorm'
_PARTS = {  # of a layer; each has a weight and a bias
  'attention/query': 'attention.self.query',
  'attention/key': 'attention.self.key',
  'attention/value': 'attention.self.value',
  'attention/out': 'attention.output.dense',
  'attention_norm': 'attention.output.LayerNorm',
  'mlp/wide': 'intermediate.dense',
  'mlp/narrow': 'output.dense',
  'mlp_norm': 'output.LayerNorm',
}


def read(
  folder: str | os.PathLike, tower: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, int]]:
  """Reads a checkpoint folder and checks every tensor in it.

  Args:
    folder: With model.safetensors, vocab.txt and, mostly, config.json.
    tower: Arguments of the `TextTower` that shall hold it, which are compared
      with the checkpoint; without config.json they tell `num_heads`, as no
      tensor does.

  Returns:
    Parameters of `TextTower`, nested dicts of float32 numpy arrays, and the
    sizes that it must have: vocab_size, max_length, num_layers, embed_dim,
    num_heads and mlp_dim.

  Raises:
    UsageError: If a file or tensor is missing, spare, unreadable or of
      another shape, if the checkpoint is no uncased BERT with exact GELU, or
      if the tower has other sizes (the config keys to set are named).
  """
  folder = Path(folder)
  tensors = _read_tensors(folder)
  config = _read_json(folder / CONFIG)
  _check_kind(folder, config)
  num_heads = int((tower or {}).get('num_heads', 0))
  settings = _settings(folder, tensors, config, num_heads)
  _check_vocabulary(folder, settings['vocab_size'])
  _check_tensors(folder / TENSORS, tensors, _shapes(settings))
  if tower is not None:
    _check_tower(folder, settings, tower)
  return _params(tensors, settings), settings


def _read_tensors(folder: Path) -> dict[str, np.ndarray]:
  """Reads tensors by the names of a bare BertModel."""
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  path = folder / TENSORS
  if not path.is_file():
    raise UsageError(
      f"'{folder}' is no BERT checkpoint (it has no {TENSORS}): give a folder "
      f'with {TENSORS}, {VOCABULARY} and {CONFIG}'
    )
  try:
    tensors = load_file(path)
  except (SafetensorError, TypeError, KeyError, ValueError) as error:
    raise UsageError(
      f"'{path}' cannot be read ({error!r}): expected float32 or float16 "
      'tensors in the safetensors format; copy or convert it again'
    ) from error
  if any(name.startswith(_PREFIX) for name in tensors):  # others are heads
    tensors = {
      name.removeprefix(_PREFIX): tensor
      for name, tensor in tensors.items()
      if name.startswith(_PREFIX)
    }
  # Early checkpoints call scale and shift of a norm gamma and beta.
  return {
    name.replace('LayerNorm.gamma', 'LayerNorm.weight').replace(
      'LayerNorm.beta', 'LayerNorm.bias'
    ): tensor
    for name, tensor in tensors.items()
    if not name.startswith(_IGNORED)
  }


def _read_json(path: Path) -> dict[str, Any]:
  if not path.exists():
    return {}
  try:
    return dict(json.loads(path.read_text(encoding='utf-8')))
  except (ValueError, TypeError) as error:
    raise UsageError(
      f"'{path}' is no JSON object ({error}): copy it again, or move it away, "
      "and the tensors' own shapes count"
    ) from error


def _check_kind(folder: Path, config: Mapping[str, Any]) -> None:
  """Refuses what has BERT's tensors and computes something else."""
  for key, expected in _COMPUTED.items():
    if config.get(key, expected) != expected:
      raise UsageError(
        f"'{folder}': {CONFIG} says {key}={config[key]!r}, the text tower "
        f'computes {expected!r}: choose a checkpoint of the BERT kind'
      )
  tokenizer = _read_json(folder / 'tokenizer_config.json')
  if tokenizer.get('do_lower_case') is False:
    raise UsageError(
      f"'{folder}' is a cased checkpoint, and texts are read in lower case: "
      'choose an uncased one'
    )


def _settings(
  folder: Path,
  tensors: Mapping[str, np.ndarray],
  config: Mapping[str, Any],
  num_heads: int,
) -> dict[str, int]:
  """Takes the sizes from config.json, else from the tensors.

  Raises:
    UsageError: If neither tells one.
  """
  layers = [int(match[1]) for n in tensors if (match := _LAYER_NUMBER.match(n))]

  def shape(name: str) -> tuple[int, ...]:
    # A wrong rank or a missing tensor is named later, with all others.
    return (*np.shape(tensors.get(name, ())), 0, 0)

  vocab_size, embed_dim, *_ = shape(_TABLES['token'])
  seen = {
    'vocab_size': vocab_size,
    'embed_dim': embed_dim,
    'max_length': shape(_TABLES['position'])[0],
    'num_layers': max(layers, default=-1) + 1,
    'mlp_dim': shape('encoder.layer.0.intermediate.dense.weight')[0],
    'num_heads': num_heads,
  }
  try:
    found = {
      ours: int(config.get(theirs, seen[ours]))
      for ours, theirs in _SIZES.items()
    }
  except (TypeError, ValueError) as error:
    raise UsageError(
      f"'{folder / CONFIG}': a size is no number ({error}): copy it again"
    ) from error
  for name, value in found.items():
    if value < 1:
      raise UsageError(
        f"'{folder}' does not tell {name}: expected {_SIZES[name]} in "
        f'{CONFIG}, or the tensors of a BertModel in {TENSORS} '
        f'({len(tensors)} tensors found); choose another checkpoint or add it'
      )
  if found['embed_dim'] % found['num_heads']:
    raise UsageError(
      f"'{folder}': {found['num_heads']} heads do not divide a width of "
      f'{found["embed_dim"]}: correct num_attention_heads in {CONFIG}'
    )
  return found


def _check_vocabulary(folder: Path, rows: int) -> None:
  """Compares vocab.txt with the table of embeddings, which may be padded."""
  path = folder / VOCABULARY
  if not path.is_file():
    raise UsageError(
      f"'{path}' is missing: a checkpoint reads only its own word pieces; copy "
      f'its {VOCABULARY} into the folder'
    )
  lines = len(path.read_bytes().removesuffix(b'\n').split(b'\n'))
  if lines > rows:
    raise UsageError(
      f"'{path}' has {lines} pieces and {TENSORS} embeddings for {rows}: take "
      'both from one checkpoint'
    )


def _shapes(settings: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
  """Names every tensor with its shape in the layout (out, in)."""
  dim, mlp_dim = settings['embed_dim'], settings['mlp_dim']
  of_part = dict.fromkeys(_PARTS, (dim, dim)) | {
    'mlp/wide': (mlp_dim, dim),
    'mlp/narrow': (dim, mlp_dim),
    'attention_norm': (dim,),
    'mlp_norm': (dim,),
  }
  weights = {_NORM: (dim,)} | {
    f'encoder.layer.{layer}.{theirs}': of_part[ours]
    for layer in range(settings['num_layers'])
    for ours, theirs in _PARTS.items()
  }
  return {
    _TABLES['token']: (settings['vocab_size'], dim),
    _TABLES['position']: (settings['max_length'], dim),
    _TABLES['segment']: (2, dim),
    **{f'{name}.weight': shape for name, shape in weights.items()},
    **{f'{name}.bias': shape[:1] for name, shape in weights.items()},
  }


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
      f'got {len(tensors)} ({told}): choose a whole checkpoint '
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
  layers, heads = settings['num_layers'], settings['num_heads']
  tensors = {name: np.asarray(x, np.float32) for name, x in tensors.items()}
  found = {(ours,): tensors[theirs] for ours, theirs in _TABLES.items()}
  found['norm', 'scale'] = tensors[f'{_NORM}.weight']
  found['norm', 'bias'] = tensors[f'{_NORM}.bias']
  for ours, theirs in _PARTS.items():
    weight, bias = (
      np.stack(
        [tensors[f'encoder.layer.{i}.{theirs}.{kind}'].T for i in range(layers)]
      )
      for kind in ('weight', 'bias')
    )
    if ours in ('attention/query', 'attention/key', 'attention/value'):
      weight = weight.reshape(*weight.shape[:2], heads, -1)
      bias = bias.reshape(layers, heads, -1)
    elif ours == 'attention/out':
      weight = weight.reshape(layers, heads, -1, weight.shape[2])
    path = 'transformer', 'layers', *ours.split('/')
    found[*path, 'scale' if ours.endswith('norm') else 'kernel'] = weight
    found[*path, 'bias'] = bias
  return traverse_util.unflatten_dict(found)
