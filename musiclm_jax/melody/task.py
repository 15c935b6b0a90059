"""The melody's training, one player: two takes of a melody -> embeddings."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import PRNGKey, Waveform
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
from musiclm_jax.melody import losses
from musiclm_jax.melody.embedder import PLAYER, MelodyEmbedder
from musiclm_jax.melody.model import SAMPLE_RATE


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
    variables = self.melody.model.init(rng, self._takes(batch)[0])
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

  def _takes(self, batch: Batch) -> tuple[Waveform, int]:
    """All takes one a row [2 B, S], and how many takes a melody has.

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
    return waveform.reshape(-1, samples), takes

  def _embed_pairs(
    self,
    params: Params,
    batch: Batch,
    **options: bool | dict[str, PRNGKey],
  ) -> Float[Array, 'B P D']:
    rows, takes = self._takes(batch)
    found = self.melody.model.apply({'params': params[PLAYER]}, rows, **options)
    return found.reshape(-1, takes, self.melody.embed_dim)

  def _compare(
    self, pairs: Float[Array, 'B P D'], batch: Batch
  ) -> tuple[Float[Array, ' N'], Metrics]:
    """Loss of each anchor, and what is reported of each pair [B]."""
    group = batch['group']
    loss = losses.triplet_loss(pairs, group, self.margin)
    across = losses.squared_distances(pairs[:, 0], pairs[:, 1])
    other = group[:, None] != group[None, :]
    count = jnp.maximum(other.sum(axis=1), 1)
    return loss, {
      'loss': loss.reshape(2, -1).mean(axis=0),
      'recall_at_1': 0.5
      * (
        losses.recall_at_1(across, group) + losses.recall_at_1(across.T, group)
      ),
      'positive_distance': jnp.diagonal(across),
      'negative_distance': jnp.where(other, across, 0.0).sum(axis=1) / count,
    }

  def _loss(
    self,
    params: Params,
    collections: Collections,
    batch: Batch,
    rng: PRNGKey,
    step: Array,
  ) -> tuple[Array, tuple[Collections, Metrics]]:
    del step
    pairs = self._embed_pairs(
      params, batch, training=True, rngs={'dropout': rng}
    )
    loss, metrics = self._compare(pairs, batch)
    metrics = {name: value.mean() for name, value in metrics.items()}
    del metrics['loss']
    return loss.mean(), (collections, metrics)
