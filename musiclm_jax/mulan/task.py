"""MuLan's training, one player: pairs of waveform and text -> embeddings."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

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
from musiclm_jax.mulan.embedder import PLAYER, MulanEmbedder, variables_of
from musiclm_jax.mulan.model import TOWER_RATE
from musiclm_jax.nn import embedding

# int32 words of `facts` and `claims`: as many as `rendered_music.facts` fills.
FACT_WORDS = 10
_NEVER = -1e9  # a finite minus infinity: rows without negatives stay finite


@dataclasses.dataclass(frozen=True)
class MulanTask:
  """Contrastive learning of music and text.

  Batches hold `waveform` [B, S] at 24 kHz, one window long; `text_ids`
  int32 [B, C, L], C captions of each, 0 is padding; `group` int32 [B]: pairs
  of one group are no negatives of each other. Each of the C captions makes a
  batch of B pairs with the same audio, and the loss is their mean: audio
  costs more than text, and C captions say more on it than one. The player's
  collections are the running statistics of its norms, `batch_stats`.

  Batches may also say which captions are true of which crops, see
  `true_pairs`; then those are no negatives either.

  Attributes:
    mulan: What is trained.
  """

  mulan: MulanEmbedder

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters and empty running statistics."""
    variables = self.mulan.model.init(
      rng, self._one_window(batch['waveform']), batch['text_ids'][:, 0]
    )
    return {PLAYER: variables['params']}, {PLAYER: variables['batch_stats']}

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
    text = _by_caption(text, text_ids)
    loss, _, metrics = _compare(
      audio, text, true_pairs(batch), batch['group'], temperature
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

  def _loss(self, params, collections, batch, rng, step):
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
    loss, terms, metrics = _compare(
      audio, text, true_pairs(batch), batch['group'], temperature
    )
    metrics = {name: value.mean() for name, value in metrics.items()}
    moved = {**collections, PLAYER: moved['batch_stats']}
    return mean_over_pairs(loss, terms), (moved, metrics)

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


def true_pairs(batch: Batch) -> Bool[Array, 'C B B'] | None:
  """Tells which captions of a batch are true of which of its crops.

  Those are: captions of crops of one piece, and a caption all of whose claims
  are facts of the crop. A caption without claims, of which nobody knows what
  it states, is true of its piece alone.

  Args:
    batch: `piece` int32 [B]; `facts` int32 [B, W] and `claims` int32 [B, C, W],
      whose bits `rendered_music.facts` explains. The global batch: captions of
      one host are compared with crops of all.

  Returns:
    Crop i and the c-th caption of pair j at [c, i, j]; None if the batch does
    not say.
  """
  if 'claims' not in batch:
    return None
  piece, facts = batch['piece'], batch['facts'][None, :, None]
  claims = batch['claims'].swapaxes(0, 1)[:, None]
  stated = ((claims & ~facts) == 0).all(axis=-1) & (claims != 0).any(axis=-1)
  return stated | (piece[:, None] == piece[None, :])


@functools.partial(jax.vmap, in_axes=(None, 0, 0, None, None))
def _compare(
  audio: Embedding,
  text: Embedding,
  true: Array | None,
  group: Array,
  temperature: Array,
) -> tuple[Array, Array, Metrics]:
  """Loss and its number of terms per pair, and what is reported per pair.

  Of every caption: [B, D], [C, B, D], perhaps [C, B, B] -> [C, B].
  """
  scores = embedding.cosines(audio, text)
  loss, terms = contrastive_loss(scores, group, temperature, true)
  others = None if true is None else true.T
  metrics = {
    'text_to_audio_recall_at_1': embedding.recall_at_1(scores.T, group, others),
    'audio_to_text_recall_at_1': embedding.recall_at_1(scores, group, true),
    'matched_cosine': jnp.diagonal(scores),
    'chance_loss': jnp.log(jnp.maximum(terms, 1)),
    'ln_batch': jnp.full(len(group), math.log(len(group))),
    'temperature': jnp.broadcast_to(temperature, group.shape),
  }
  return loss, terms, metrics


def contrastive_loss(
  cosines: Float[Array, 'B B'],
  group: Int[Array, ' B'],
  temperature: Float[Array, ''],
  true: Bool[Array, 'B B'] | None = None,
) -> tuple[Float[Array, ' B'], Int[Array, ' B']]:
  """Decoupled contrastive loss with one denominator for both directions.

    L_i = -log( h_ii / sum_{j != i} (h_ij + h_ji) ),  h = exp(cosine / tau)

  (MuLan §3.2, in the form of contrastive multiview coding; positives are not
  in the denominator.) Pairs of one group are described alike, so they are not
  negatives of each other; nor is a caption of a crop of which it is true.

  Args:
    cosines: Of the global batch, audio i with text j at [i, j].
    group: Equal for pairs with equal attributes.
    temperature: tau.
    true: Whether text j is true of audio i at [i, j], whatever their groups;
      then h_ij is in no denominator.

  Returns:
    Loss of each pair, 0 where it has no negative; and the number of terms in
    its denominator, 2 (B - 1) where all others are negatives. A model that
    knows nothing has the loss ln(terms).
  """
  logits = cosines / temperature
  negative = group[:, None] != group[None, :]
  if true is not None:
    negative = negative & ~true
  # Of audio i, texts of others; of text i, audio of others.
  negative = jnp.concatenate([negative, negative.T], axis=1)
  terms = negative.sum(axis=1)
  both_ways = jnp.concatenate([logits, logits.T], axis=1)
  denominator = jax.nn.logsumexp(jnp.where(negative, both_ways, _NEVER), axis=1)
  loss = denominator - jnp.diagonal(logits)
  return jnp.where(terms > 0, loss, 0.0), terms


def mean_over_pairs(
  loss: Float[Array, ' B'], terms: Int[Array, ' B']
) -> Float[Array, '']:
  """Averages a loss over the pairs that have a negative."""
  counted = terms > 0
  return jnp.where(counted, loss, 0.0).sum() / jnp.maximum(counted.sum(), 1)
