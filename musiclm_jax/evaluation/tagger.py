"""The network that comes with the package: log-mels -> embedding and tags.

log-mels [B, 96, 64] of 0.96 s -> convolutions -> embedding [B, 64] -> logits of
each head [B, K]. A small network that learned attributes of composed music
(`experiments/embedder/`): it makes measures possible where no published weights
are at hand. It is *not VGGish*, and its figures cannot be compared with those
of any other embedder.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.task import Params

FILE = Path(__file__).with_name('tagger.safetensors')
NAME = 'tagger'
_CHANNELS = (32, 64, 128, 128)
_EMBED_DIM = 64
# What log-mels of music are about, so that the first layer sees unit numbers.
_LOG_MEL_MEAN, _LOG_MEL_DEVIATION = -2.0, 2.0


class TaggerNetwork(nn.Module):
  """Convolutions of stride 2, a mean over time, a dense layer, and heads.

  Attributes:
    heads: Name of an attribute -> number of its classes.
  """

  heads: Mapping[str, int]

  @nn.compact
  def __call__(
    self, log_mels: Float[Array, 'B T M']
  ) -> tuple[Float[Array, 'B D'], dict[str, Float[Array, 'B K']]]:
    """Embeds windows and scores them.

    Returns:
      Embeddings before their activation, and logits by head.
    """
    x = (log_mels[..., None] - _LOG_MEL_MEAN) / _LOG_MEL_DEVIATION
    for channels in _CHANNELS:
      x = nn.Conv(channels, (3, 3), (2, 2))(x)
      x = nn.relu(nn.GroupNorm(8)(x))
    # Pitch keeps its place, time does not.
    x = x.mean(axis=1)
    x = nn.Dense(_EMBED_DIM, name='embedding')(x.reshape(len(x), -1))
    hidden = nn.relu(x)
    logits = {
      name: nn.Dense(classes, name=name)(hidden)
      for name, classes in self.heads.items()
    }
    return x, logits


@dataclasses.dataclass(frozen=True)
class Tagger:
  """The trained network and what is known of it.

  Attributes:
    network: Its mathematics.
    params: Its parameters.
    classes: Head -> names of its classes.
    kinds: Head -> `'softmax'`, one class is true, or `'sigmoid'`, several.
    accuracy: Head -> {`'plain'`, `'coded'`, …: share in [0, 1] of held-out
      clips of 10 s}; of `'sigmoid'` heads the mean over their classes.
    majority: Head -> share of the same clips that always naming the commonest
      class would be right of.
    sha256: Of the file.
  """

  network: TaggerNetwork
  params: Params
  classes: Mapping[str, tuple[str, ...]]
  kinds: Mapping[str, str]
  accuracy: Mapping[str, Mapping[str, float]]
  majority: Mapping[str, float]
  sha256: str

  @property
  def embed_dim(self) -> int:
    """Width of the embedding, D."""
    return _EMBED_DIM


def make_network(classes: Mapping[str, tuple[str, ...]]) -> TaggerNetwork:
  """Makes the network for heads of given classes."""
  return TaggerNetwork({name: len(names) for name, names in classes.items()})


@functools.cache
def load(path: Path = FILE) -> Tagger:
  """Loads the network that comes with the package."""
  from flax.traverse_util import unflatten_dict
  from safetensors import safe_open

  with safe_open(path, 'numpy') as file:
    facts: dict[str, Any] = json.loads(file.metadata()['tagger'])
    arrays = {
      name: jnp.asarray(file.get_tensor(name)) for name in file.offset_keys()
    }
  classes = {name: tuple(names) for name, names in facts['classes'].items()}
  return Tagger(
    network=make_network(classes),
    params=unflatten_dict(arrays, sep='/'),
    classes=classes,
    kinds=facts['kinds'],
    accuracy=facts['accuracy'],
    majority=facts['majority'],
    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
  )


def save(
  path: Path,
  params: Params,
  classes: Mapping[str, tuple[str, ...]],
  kinds: Mapping[str, str],
  accuracy: Mapping[str, Mapping[str, float]],
  majority: Mapping[str, float],
  training: Mapping[str, Any],
) -> None:
  """Writes what `load` reads.

  Args:
    path: Of the file.
    params: Of the network.
    classes: See `Tagger`.
    kinds: See `Tagger`.
    accuracy: See `Tagger`.
    majority: See `Tagger`.
    training: What it was trained on and how, for the reader of the file.
  """
  import numpy as np
  from flax.traverse_util import flatten_dict
  from safetensors.numpy import save_file

  facts = {
    'classes': {name: list(names) for name, names in classes.items()},
    'kinds': dict(kinds),
    'accuracy': accuracy,
    'majority': dict(majority),
    'training': dict(training),
  }
  arrays = {
    name: np.asarray(array, np.float32)
    for name, array in flatten_dict(params, sep='/').items()
  }
  save_file(arrays, path, metadata={'tagger': json.dumps(facts)})
  path.chmod(0o644)  # the library writes files that nobody else can read
