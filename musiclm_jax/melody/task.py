"""The melody's training, one player: two takes of a tune -> embeddings."""

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
from musiclm_jax.dsp.framing import frame
from musiclm_jax.melody import losses
from musiclm_jax.melody.model import SAMPLE_RATE, MelodyViT
from musiclm_jax.nn.precision import exact

PLAYER = 'melody'


@dataclasses.dataclass(frozen=True)
class MelodyTask:
  """Learns what two takes of one tune have in common (MusicLM App. C).

  Batches hold `waveform` [B, 2, S] at 24 kHz, one window long, two takes of
  each tune; `group` int32 [B]: pairs of one group are no negatives of each
  other. The player has no collections.

  Attributes:
    model: The network.
    margin: Of the triplet loss, in squared distance.
    window_seconds: What is heard at once.
    window_hop_seconds: From window to window of a longer clip.
  """

  model: MelodyViT
  margin: float = 0.2
  window_seconds: float = 4.0
  window_hop_seconds: float = 3.0

  @property
  def embed_dim(self) -> int:
    """Width of an embedding."""
    return self.model.output_dim

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters; there are no collections."""
    variables = self.model.init(rng, self._takes(batch)[0])
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

  @exact
  def embed_audio(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> Float[Array, 'B N D']:
    """Embeds each window of clips as unit vectors [B, N, 192].

    Windows of 4 s every 3 s (App. C): N = 1 + (S - 4 s) // 3 s, which is 3 in
    10 s. What follows the last whole window is not heard.

    Args:
      params: By player.
      collections: By player.
      waveform: [B, S] at 24 kHz.

    Raises:
      UsageError: If the clips are shorter than a window.
    """
    del collections
    window, hop = self._samples()
    if waveform.shape[-1] < window:
      raise UsageError(
        f'a melody embedding needs {self.window_seconds} s, came '
        f'{waveform.shape[-1] / SAMPLE_RATE} s: give longer clips'
      )
    windows = frame(waveform, window, hop)
    rows = self.model.apply(
      {'params': params[PLAYER]}, windows.reshape(-1, window)
    )
    return rows.reshape(*windows.shape[:2], -1)

  def _samples(self) -> tuple[int, int]:
    """Window and hop in samples."""
    return (
      round(self.window_seconds * SAMPLE_RATE),
      round(self.window_hop_seconds * SAMPLE_RATE),
    )

  def _takes(self, batch: Batch) -> tuple[Waveform, int]:
    """All takes one a row [2 B, S], and how many takes a tune has.

    Raises:
      UsageError: If there are not two of exactly one window.
    """
    waveform = batch['waveform']
    takes, samples = waveform.shape[1:]
    if (takes, samples) != (2, self._samples()[0]):
      raise UsageError(
        f'melody trains on 2 takes of {self.window_seconds} s, came {takes} '
        f'of {samples / SAMPLE_RATE} s: set config.data.crop_seconds and '
        'config.loss.window_seconds alike'
      )
    return waveform.reshape(-1, samples), takes

  def _embed_pairs(
    self,
    params: Params,
    batch: Batch,
    **options: bool | dict[str, PRNGKey],
  ) -> Float[Array, 'B P D']:
    rows, takes = self._takes(batch)
    found = self.model.apply({'params': params[PLAYER]}, rows, **options)
    return found.reshape(-1, takes, self.embed_dim)

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
