"""The melody's training, one player: two takes of a melody -> embeddings."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Embedding, PRNGKey, Waveform
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import (
  Batch,
  BatchInfo,
  Collections,
  HealthCheck,
  LossFn,
  Metrics,
  Params,
)
from musiclm_jax.melody.embedder import PLAYER, MelodyEmbedder
from musiclm_jax.melody.model import SAMPLE_RATE
from musiclm_jax.nn.embedding import cosines, recall_at_1


@dataclasses.dataclass(frozen=True)
class MelodyTask:
  """Learns what two takes of one melody have in common (MusicLM App. C).

  Batches hold `waveform` [B, 2, S] at 24 kHz, one window long, two takes of
  each melody; `group` int32 [B]: pairs of one group are no negatives of each
  other. The player has no collections.

  Attributes:
    melody: What is trained.
    margin: Of the triplet loss, in squared distance.
  """

  melody: MelodyEmbedder
  margin: float = 0.2

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters; there are no collections."""
    variables = self.melody.model.init(rng, self._takes(batch))
    return {PLAYER: variables['params']}, {PLAYER: {}}

  def losses(self) -> dict[str, LossFn]:
    """Returns the one player's loss."""
    return {PLAYER: self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Loss, recall and distances of each pair among the batch."""
    del collections
    return self._compare(self._embed_pairs(params, batch), batch)[1]

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Seconds of audio; a loss as of embeddings that are all the same."""
    return BatchInfo(
      batch['waveform'].size / SAMPLE_RATE,
      'audio seconds',
      (HealthCheck('at chance', 'loss', self.margin),),
    )

  def _takes(self, batch: Batch) -> Waveform:
    """All takes one a row [2 B, S], the two of a melody after each other.

    Raises:
      UsageError: If there are not two of exactly one window.
    """
    waveform = batch['waveform']
    takes, samples = waveform.shape[1:]
    if (takes, samples) != (2, self.melody.window_samples):
      raise UsageError(
        f'melody trains on 2 takes of {self.melody.window_seconds} s, got '
        f'{takes} of {samples / SAMPLE_RATE} s: set config.data.crop_seconds '
        'and config.loss.window_seconds alike'
      )
    return waveform.reshape(-1, samples)

  def _embed_pairs(
    self, params: Params, batch: Batch, **options: Any
  ) -> Float[Array, 'B P D']:
    rows = self._takes(batch)
    found = self.melody.model.apply({'params': params[PLAYER]}, rows, **options)
    return found.reshape(-1, 2, self.melody.embed_dim)

  def _compare(
    self, pairs: Float[Array, 'B P D'], batch: Batch
  ) -> tuple[Float[Array, ' N'], Metrics]:
    """Loss of each anchor, and what is reported of each pair [B]."""
    group = batch['group']
    loss = triplet_loss(pairs, group, self.margin)
    across = squared_distances(pairs[:, 0], pairs[:, 1])
    other = group[:, None] != group[None, :]
    count = jnp.maximum(other.sum(axis=1), 1)
    hits = recall_at_1(-across, group) + recall_at_1(-across.T, group)
    return loss, {
      'loss': loss.reshape(2, -1).mean(axis=0),
      'recall_at_1': 0.5 * hits,
      'positive_distance': jnp.diagonal(across),
      'negative_distance': jnp.where(other, across, 0.0).sum(axis=1) / count,
    }

  def _loss(self, params, collections, batch, rng, step):
    del step
    pairs = self._embed_pairs(
      params, batch, training=True, rngs={'dropout': rng}
    )
    loss, metrics = self._compare(pairs, batch)
    metrics = {name: value.mean() for name, value in metrics.items()}
    del metrics['loss']
    return loss.mean(), (collections, metrics)


def squared_distances(x: Embedding, y: Embedding) -> Float[Array, 'B B']:
  """Squared L2 distances of unit vectors, x_i to y_j at [i, j], in [0, 4]."""
  return 2.0 - 2.0 * cosines(x, y)


def triplet_loss(
  pairs: Float[Array, 'B P D'], group: Int[Array, ' B'], margin: float
) -> Float[Array, ' N']:
  """Triplet loss with semi-hard negatives (FaceNet §3.2).

    L_a = max(0, d(a, p) - d(a, n) + m),  d squared L2 of unit vectors

  Each of both views of a pair is an anchor once, the other one its positive.
  Its negative is, of both views of the pairs of other groups, the nearest that
  is farther than the positive by less than m; where there is none, the nearest
  of all. A choice has no gradient.

  Args:
    pairs: Unit vectors, two views of each melody (P = 2).
    group: Pairs of one group are no negatives of each other.
    margin: m; 0.2 in FaceNet.

  Returns:
    Loss of each anchor [2 B], first all first views; 0 without a negative.
  """
  views = pairs.swapaxes(0, 1).reshape(-1, pairs.shape[-1])
  others = pairs[:, ::-1].swapaxes(0, 1).reshape(views.shape)
  positive = jnp.sum(jnp.square(views - others), axis=-1)[:, None]
  distances = squared_distances(views, views)
  group = jnp.tile(group, pairs.shape[1])
  negative = group[:, None] != group[None, :]
  semi_hard = (
    negative & (distances > positive) & (distances < positive + margin)
  )
  any_semi_hard = semi_hard.any(axis=1, keepdims=True)
  candidates = jnp.where(any_semi_hard, semi_hard, negative)
  chosen = jnp.where(candidates, distances, jnp.inf).min(axis=1)
  loss = jnp.maximum(0.0, positive[:, 0] - chosen + margin)
  return jnp.where(negative.any(axis=1), loss, 0.0)
