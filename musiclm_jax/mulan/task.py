"""MuLan's training, one player: pairs of waveform and text -> embeddings."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from musiclm_jax.contracts.array_types import (
  Embedding,
  PRNGKey,
  TextIds,
  Waveform,
)
from musiclm_jax.contracts.audio import SAMPLE_RATE
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
from musiclm_jax.dsp.resample import resample_24k_to_16k
from musiclm_jax.mulan import losses
from musiclm_jax.mulan.embedder import (
  PLAYER,
  MulanEmbedder,
  variables_of,
)
from musiclm_jax.mulan.model import TOWER_RATE


@dataclasses.dataclass(frozen=True)
class MulanTask:
  """Contrastive learning of music and text.

  Batches hold `waveform` [B, S] at 24 kHz, one window long; `text_ids`
  int32 [B, C, L], C captions of each, 0 is padding; `group` int32 [B]: pairs
  of one group are no negatives of each other. Each of the C captions makes a
  batch of B pairs with the same audio, and the loss is their mean: audio
  costs more than text, and C captions say more on it than one. The player's
  collections are the running statistics of its norms, `batch_stats`.

  Attributes:
    mulan: What is trained.
  """

  mulan: MulanEmbedder

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters and empty running statistics."""
    variables = self.mulan.model.init(
      rng, self._one_window(batch['waveform']), batch['text_ids'][:, 0]
    )
    return (
      {PLAYER: variables['params']},
      {PLAYER: variables['batch_stats']},
    )

  def losses(self) -> dict[str, LossFn]:
    """Returns the one player's loss."""
    return {PLAYER: self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Loss and recall of each pair among the batch, in both directions.

    `chance_loss` is the loss of a model that knows nothing, `ln_batch` the
    chance level of an InfoNCE loss; both beside the loss for comparison.
    """
    audio = self.mulan.embed_audio(params, collections, batch['waveform'])
    text_ids = batch['text_ids']
    text = self.mulan.embed_text(params, collections, _rows(text_ids))
    temperature = self.mulan.model.apply(
      variables_of(params, collections), method='temperature'
    )
    loss, _, metrics = _compare(
      audio, _by_caption(text, text_ids), batch['group'], temperature
    )
    metrics = {'loss': loss, **metrics}
    return {name: value.mean(axis=0) for name, value in metrics.items()}

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Seconds of audio; a loss that stays at that of a guess."""
    return BatchInfo(
      batch['waveform'].size / SAMPLE_RATE,
      'audio seconds',
      (HealthCheck('at chance', 'loss', 'chance_loss'),),
    )

  def _loss(
    self,
    params: Params,
    collections: Collections,
    batch: Batch,
    rng: PRNGKey,
    step: Array,
  ) -> tuple[Array, tuple[Collections, Metrics]]:
    del step
    (audio, text, temperature), moved = self.mulan.model.apply(
      variables_of(params, collections),
      self._one_window(batch['waveform']),
      _rows(batch['text_ids']),
      training=True,
      rngs={'dropout': rng},
      mutable=['batch_stats'],
    )
    text = _by_caption(text, batch['text_ids'])
    loss, terms, metrics = _compare(audio, text, batch['group'], temperature)
    metrics = {name: value.mean() for name, value in metrics.items()}
    return (
      losses.mean_over_pairs(loss, terms),
      ({**collections, PLAYER: moved['batch_stats']}, metrics),
    )

  def _one_window(self, waveform: Waveform) -> Waveform:
    """Training crops at 16 kHz.

    Raises:
      UsageError: If a crop is not exactly one window.
    """
    waveform = resample_24k_to_16k(waveform)
    expected = round(self.mulan.window_seconds * TOWER_RATE)
    if waveform.shape[1] != expected:
      raise UsageError(
        f'MuLan trains on crops of {self.mulan.window_seconds} s, got '
        f'{waveform.shape[1] / TOWER_RATE} s: set config.data.crop_seconds '
        'and config.loss.window_seconds alike'
      )
    return waveform


def _rows(text_ids: Array) -> TextIds:
  """All captions of a batch, one a row [B * C, L]."""
  return text_ids.reshape(-1, text_ids.shape[-1])


def _by_caption(rows: Embedding, text_ids: Array) -> Array:
  """Embeddings of `_rows`, sorted by caption [C, B, D]."""
  return rows.reshape(*text_ids.shape[:2], -1).swapaxes(0, 1)


@functools.partial(jax.vmap, in_axes=(None, 0, None, None))
def _compare(
  audio: Embedding, text: Embedding, group: Array, temperature: Array
) -> tuple[Array, Array, Metrics]:
  """Loss and its number of terms per pair, and what is reported per pair.

  Of every caption: [B, D], [C, B, D] -> [C, B].
  """
  cosines = losses.similarities(audio, text)
  loss, terms = losses.contrastive_loss(cosines, group, temperature)
  metrics = {
    'text_to_audio_recall_at_1': losses.recall_at_1(cosines.T, group),
    'audio_to_text_recall_at_1': losses.recall_at_1(cosines, group),
    'matched_cosine': jnp.diagonal(cosines),
    'chance_loss': jnp.log(jnp.maximum(terms, 1)),
    'ln_batch': jnp.full(len(group), math.log(len(group))),
    'temperature': jnp.broadcast_to(temperature, group.shape),
  }
  return loss, terms, metrics
