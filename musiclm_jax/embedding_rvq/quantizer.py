"""Tokens of embeddings [B, D] -> codes [B, Q]: MuLan's, the melody's."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Embedding
from musiclm_jax.contracts.task import Collections
from musiclm_jax.nn import quantizer
from musiclm_jax.nn.embedding import unit


@dataclasses.dataclass(frozen=True)
class EmbeddingQuantizer:
  """A residual quantizer of a frozen network's unit embeddings.

  An embedding is centred by the mean of its own modality and scaled to length
  1 before it is quantized, so that the constant offset between modalities
  does not become tokens. The player's collections are `<modality>_sum` [D],
  `count` and `codebooks`; nothing here changes them.

  Attributes:
    player: Its name, which is the stage's.
    num_levels: Q.
    codebook_size: K.
  """

  player: str
  num_levels: int
  codebook_size: int

  def mean(self, collections: Collections, modality: str) -> Float[Array, ' D']:
    """Returns the mean embedding of a modality."""
    own = collections[self.player]
    return own[sum_name(modality)] / jnp.maximum(own['count'], 1.0)

  def centre(
    self, collections: Collections, embedding: Embedding, modality: str
  ) -> Embedding:
    """Subtracts the modality's mean and scales to length 1.

    Embeddings of all modalities are scaled alike: a quantizer fitted on the
    scale of one has a single code for the other.
    """
    return unit(unit(embedding) - self.mean(collections, modality))

  def quantize(
    self, collections: Collections, embedding: Embedding, modality: str
  ) -> Int[Array, 'B Q']:
    """Turns embeddings into tokens, int32 [B, Q] in [0, K).

    Args:
      collections: By player; never changed here.
      embedding: The frozen network's, [B, D].
      modality: Whose mean is subtracted.
    """
    x = self.centre(collections, embedding, modality)
    return self.codes(collections, x)

  def codes(
    self, collections: Collections, centred: Embedding
  ) -> Int[Array, 'B Q']:
    """Turns what `centre` returns, or a mean of it, into tokens [B, Q]."""
    codebooks = collections[self.player]['codebooks']
    return quantizer.codes_of(codebooks, centred[:, None])[:, 0]


def sum_name(modality: str) -> str:
  """The name of a modality's running sum."""
  return f'{modality}_sum'
