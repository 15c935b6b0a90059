"""A task is a game: players own parameters, an optimizer and a loss.

SoundStream has two players (codec, discriminators); MuLan, w2v-BERT and the
LMs one; fitting a quantizer has one player that owns codebooks and no
parameters. The training loop knows this protocol and nothing else.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from jaxtyping import Array

from musiclm_jax.contracts.array_types import PRNGKey, PyTree

Params = Mapping[str, PyTree]  # player -> parameters
Collections = Mapping[str, PyTree]  # player -> codebooks, statistics
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]
LossFn = Callable[
  [Params, Collections, Batch, PRNGKey, Array],
  tuple[Array, tuple[Collections, Metrics]],
]


class Task(Protocol):
  """What a network must offer to be trained: mathematics, no state."""

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters and collections, both keyed by player.

    Args:
      rng: Key of the initial values.
      batch: One batch, of which only shapes and dtypes may matter.
    """

  def losses(self) -> Mapping[str, LossFn]:
    """Player -> loss; the first player's loss is logged as `loss`.

    A loss is called as `(params, collections, batch, rng, step)` and returns
    `(scalar, (collections, metrics))`. It is differentiated with respect to
    `params[player]` alone, and of the collections that it returns only
    `collections[player]` is kept. All players' gradients are taken at the
    same params, collections and rng, then all updates are applied. Schedules
    are functions of `step`, an int32 scalar that starts at 0.
    """

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Held-out metrics per example, each of shape [B], without dropout."""
