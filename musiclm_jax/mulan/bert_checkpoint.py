"""A folder with a published BERT: files -> named tensors and sizes.

model.safetensors  tensors as BertModel names them, kernels (out, in)
vocab.txt          word pieces, one a line
config.json        optional: sizes, heads, activation
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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


@dataclasses.dataclass(frozen=True)
class BertCheckpoint:
  """What the folder holds; the tensors' shapes are not checked yet.

  Attributes:
    folder: Where it lies.
    tensors: By the names of a bare BertModel, without its pooler.
    settings: Arguments of `TextTower`: vocab_size, max_length, num_layers,
      embed_dim, num_heads and mlp_dim.
  """

  folder: Path
  tensors: Mapping[str, np.ndarray]
  settings: Mapping[str, int]


def read(folder: str | os.PathLike, num_heads: int = 0) -> BertCheckpoint:
  """Reads a checkpoint folder.

  Args:
    folder: With model.safetensors, vocab.txt and, mostly, config.json.
    num_heads: Counts where there is no config.json, as no tensor tells it.

  Raises:
    UsageError: If a file is missing or unreadable, a size is told nowhere, or
      the checkpoint is no uncased BERT with exact GELU.
  """
  folder = Path(folder)
  tensors = _read_tensors(folder)
  config = _read_json(folder / CONFIG)
  _check_kind(folder, config)
  settings = _settings(folder, tensors, config, num_heads)
  _check_vocabulary(folder, settings['vocab_size'])
  return BertCheckpoint(folder, tensors, settings)


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
  return {
    _new_name(name): tensor
    for name, tensor in tensors.items()
    if not name.startswith(_IGNORED)
  }


def _new_name(name: str) -> str:
  """Early checkpoints call scale and shift of a norm gamma and beta."""
  name = re.sub(r'LayerNorm\.gamma$', 'LayerNorm.weight', name)
  return re.sub(r'LayerNorm\.beta$', 'LayerNorm.bias', name)


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
  layers = [
    int(match.group(1))
    for match in (re.match(r'encoder\.layer\.(\d+)\.', n) for n in tensors)
    if match
  ]

  def shape(name: str) -> tuple[int, ...]:
    # A wrong rank or a missing tensor is named later, with all others.
    return (*np.shape(tensors.get(name, ())), 0, 0)

  seen = {
    'vocab_size': shape('embeddings.word_embeddings.weight')[0],
    'embed_dim': shape('embeddings.word_embeddings.weight')[1],
    'max_length': shape('embeddings.position_embeddings.weight')[0],
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
        f'({len(tensors)} tensors came); choose another checkpoint or add it'
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
