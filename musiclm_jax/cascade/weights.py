"""Weights of one stage as arrays and files, without knowing its network.

config.json          resolved config
players.json         names of the players, also of those without arrays
weights.safetensors  'params/<player>/…', 'collections/<player>/…'
contract.json        of a token LM
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts import tensor_file
from musiclm_jax.contracts.paths import plain_file
from musiclm_jax.contracts.tensor_file import DType

# Players that only training needs; a bundle is for making music.
TRAINING_PLAYERS = ('discriminators',)
FILES = ('config.json', 'players.json', 'weights.safetensors')
CONTRACT = 'contract.json'
_DECODER = 'params/codec/decoder/'


@dataclasses.dataclass(frozen=True)
class Weights:
  """One stage as stored.

  Attributes:
    config: Resolved config.
    params: Player -> parameters, nested dicts of numpy arrays.
    collections: Player -> codebooks and statistics.
    contract_json: Of a token LM: the contract it was trained under.
  """

  config: Mapping[str, Any]
  params: Mapping[str, Any]
  collections: Mapping[str, Any]
  contract_json: str | None = None

  def inference(self) -> dict[str, dict[str, Any]]:
    """What inference needs: `{'params': …, 'collections': …}` by player."""
    kinds = {'params': self.params, 'collections': self.collections}
    return {
      kind: {p: n for p, n in players.items() if p not in TRAINING_PLAYERS}
      for kind, players in kinds.items()
    }

  def arrays(self) -> dict[str, np.ndarray]:
    """The arrays of `inference`, `'params/lm/…' -> array`, sorted by name."""
    from flax.traverse_util import flatten_dict

    flat = flatten_dict(self.inference(), sep='/')
    return {name: np.asarray(flat[name]) for name in sorted(flat)}

  def rounded(self, dtype: DType) -> 'Weights':
    """What comes back where these are stored in `dtype`, in float32."""
    from flax.traverse_util import unflatten_dict

    if dtype == 'float32':
      return self
    arrays = tensor_file.decode(tensor_file.encode(self.arrays(), dtype))
    found = unflatten_dict(arrays, sep='/')
    trees = {
      kind: {p: found.get(kind, {}).get(p, {}) for p in players}
      for kind, players in self.inference().items()
    }
    return dataclasses.replace(self, **trees)

  def sha256(self) -> str:
    """Hashes names, shapes, types and bytes of what inference needs."""
    return _hash(self.arrays())

  def codes_sha256(self) -> str:
    """As `sha256`, of what makes codes: a codec without its decoder."""
    arrays = self.arrays().items()
    return _hash({n: a for n, a in arrays if not n.startswith(_DECODER)})


def write(folder: Path, weights: Weights, dtype: DType = 'float32') -> None:
  """Writes one stage into a new folder.

  Args:
    folder: Of the stage.
    weights: Of it.
    dtype: That they are rounded to; see `tensor_file`.

  Raises:
    OSError: Naming the file, if the disk does not take it.
  """
  from safetensors import SafetensorError
  from safetensors.numpy import save_file

  folder.mkdir()
  (folder / 'config.json').write_text(_json(weights.config))
  arrays = tensor_file.encode(weights.arrays(), dtype)
  path = folder / 'weights.safetensors'
  try:
    save_file(arrays, plain_file(path))
  except SafetensorError as error:  # such as a full disk
    raise OSError(5, f'could not be written ({error})', str(path)) from error
  # The library writes files that nobody else can read.
  shutil.copymode(folder / 'config.json', path)
  players = {kind: sorted(tree) for kind, tree in weights.inference().items()}
  (folder / 'players.json').write_text(_json(players))
  if weights.contract_json is not None:
    (folder / CONTRACT).write_text(weights.contract_json)


def read(folder: Path) -> Weights:
  """Reads what `write` wrote."""
  from flax.traverse_util import unflatten_dict

  tree = json.loads((folder / 'players.json').read_text())
  # A player without arrays leaves no trace among the tensors.
  arrays = tensor_file.read((folder / 'weights.safetensors').read_bytes())
  found = unflatten_dict(arrays, sep='/')
  tree = {
    kind: {player: found.get(kind, {}).get(player, {}) for player in players}
    for kind, players in tree.items()
  }
  contract = folder / CONTRACT
  return Weights(
    config=json.loads((folder / 'config.json').read_text()),
    contract_json=contract.read_text() if contract.exists() else None,
    **tree,
  )


def _hash(arrays: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name, array in arrays.items():
    digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def _json(node: Any) -> str:
  return json.dumps(node, indent=1, sort_keys=True) + '\n'
