"""PANNs' Cnn14 in Flax: log-mels [B, T, 64] -> embedding, logits (Kong 2020).

Six blocks of two convolutions, whose batch norms are folded into them
(`interop/panns.py`); mean over frequency; maximum plus mean over time; a dense
layer, which is the embedding [B, 2048]; logits [B, 527] of AudioSet's classes,
each of which may be true.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.task import Params
from musiclm_jax.interop import panns as weights
from musiclm_jax.nn.precision import exact

NAME = 'panns'
SECONDS = 10.0  # of the clips that it learned from
# On AudioSet's evaluation split, as its authors published it: not measured
# here.
PUBLISHED = 'mAP 0.431 on AudioSet as published, not measured here'


class Cnn14(nn.Module):
  """The network.

  Attributes:
    channels: Of each block.
    embed_dim: Width of the embedding.
    num_classes: Of the logits.
  """

  channels: tuple[int, ...] = weights.CHANNELS
  embed_dim: int = weights.EMBED_DIM
  num_classes: int = weights.NUM_CLASSES

  @nn.compact
  def __call__(
    self, log_mels: Float[Array, 'B T M']
  ) -> tuple[Float[Array, 'B D'], Float[Array, 'B K']]:
    """Embeds clips of 32 frames or more, and scores them."""
    shape = (log_mels.shape[-1],)
    scale = self.param('input_scale', nn.initializers.ones, shape)
    offset = self.param('input_offset', nn.initializers.zeros, shape)
    x = (log_mels * scale + offset)[..., None]
    for block, channels in enumerate(self.channels, 1):
      for layer in (1, 2):
        name = f'conv_block{block}_conv{layer}'
        x = nn.relu(nn.Conv(channels, (3, 3), name=name)(x))
      if block < len(self.channels):
        x = nn.avg_pool(x, (2, 2), (2, 2))
    x = x.mean(axis=2)
    x = x.max(axis=1) + x.mean(axis=1)
    x = nn.relu(nn.Dense(self.embed_dim, name='fc1')(x))
    return x, nn.Dense(self.num_classes, name='fc_audioset')(x)


@dataclasses.dataclass(frozen=True)
class Panns:
  """Cnn14 with published weights.

  Attributes:
    params: Of `Cnn14`.
    sha256: Of the file.
  """

  params: Params
  sha256: str

  @functools.cached_property
  def apply(self) -> Callable[[Array], tuple[Array, Array]]:
    """A function log-mels [B, T, 64] -> (embedding, logits), compiled once."""
    network = jax.jit(exact(Cnn14().apply))
    return lambda batch: network({'params': self.params}, batch)


def load(path: Path) -> Panns:
  """Reads published weights.

  Raises:
    UsageError: If the file holds none; see `interop.panns.read`.
  """
  params, sha256 = weights.read(path)
  return Panns(jax.tree.map(jnp.asarray, params), sha256)
