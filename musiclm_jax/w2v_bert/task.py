"""w2v-BERT's training, one player: waveform [B, S] -> semantic features.

L = L_w + 0.1 L_d + L_m: contrastive, diversity, masked prediction.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts.array_types import PRNGKey
from musiclm_jax.contracts.horizon import Earlier, Horizon
from musiclm_jax.contracts.task import (
  Batch,
  BatchInfo,
  Collections,
  HealthCheck,
  LossFn,
  Metrics,
  Params,
)
from musiclm_jax.nn.kmeans import perplexity
from musiclm_jax.w2v_bert import frontend, losses
from musiclm_jax.w2v_bert.features import PLAYER, SemanticFeatures, variables_of
from musiclm_jax.w2v_bert.frontend import (
  add_frames,
  init_statistics,
  standardise,
)
from musiclm_jax.w2v_bert.model import W2vBertOutput

_COLLAPSED_PERPLEXITY = 0.1  # share of K
_COLLAPSED_ACCURACY = 0.95


@dataclasses.dataclass(frozen=True)
class W2vBertTask:
  """Self-supervised learning from waveforms.

  Batches hold `waveform` [B, S] at 24 kHz. The player's collections are
  `statistics`, mean and variance of each mel band or cepstral coefficient,
  gathered until the masked prediction begins and constant after, `latents`,
  those of the quantizer's input, which follow it, and `batch_stats` of
  BatchNorm.

  Attributes:
    semantic: What is trained: the network, and its features.
    total_steps: Of the training; schedules are shares of it.
    mask_probability: Of a span beginning at a frame.
    mask_span: Frames in a span.
    num_distractors: Of the contrastive loss.
    contrastive_temperature: κ.
    diversity_weight: Of L_d.
    first_temperature: Of the Gumbel softmax at the first step.
    last_temperature: At the last; it falls geometrically.
    contrastive_only: Share of the steps before L_m joins.
    earlier: What `total_steps` was before; see `Horizon`.
  """

  semantic: SemanticFeatures
  total_steps: int
  mask_probability: float = 0.065
  mask_span: int = 10
  num_distractors: int = 100
  contrastive_temperature: float = 0.1
  diversity_weight: float = 0.1
  first_temperature: float = 2.0
  last_temperature: float = 0.5
  contrastive_only: float = 0.1
  earlier: Earlier = ()

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters, and statistics of no frames."""
    mels = self.semantic.log_mels(batch['waveform'])
    mask = jnp.zeros(
      (len(mels), mels.shape[1] // frontend.MELS_PER_FRAME), bool
    )
    latents = init_statistics(self.semantic.model.latent_dim)
    variables = self.semantic.model.init(rng, mels, mask, latents, rng)
    collections = {
      'statistics': init_statistics(
        self.semantic.model.num_mels,
        frontend.TYPICAL_MEAN,
        frontend.TYPICAL_VARIANCE,
      ),
      'latents': latents,
      'batch_stats': nn.unbox(variables.get('batch_stats', {})),
    }
    return {PLAYER: variables['params']}, {PLAYER: collections}

  def losses(self) -> dict[str, LossFn]:
    """Returns the one player's loss."""
    return {PLAYER: self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Losses and accuracies per example, under a mask that is always the same.

    `code_perplexity` and `collapsed` are of the whole batch, repeated.
    """
    own = collections[PLAYER]
    mask_rng, *rngs = jax.random.split(jax.random.key(0), 3)
    mels = self.semantic.inputs(collections, batch['waveform'])
    mask = self._mask(mask_rng, mels)
    output = self.semantic.model.apply(
      variables_of(params, own), mels, mask, own['latents'], rngs[0]
    )
    metrics = self._metrics(output, mask, rngs[1], axis=1)
    metrics['loss'] = self._total(metrics, jnp.array(1.0))
    return {k: jnp.broadcast_to(v, len(mels)) for k, v in metrics.items()}

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Seconds of audio; targets that are all the same code."""
    size = batch['waveform'].size
    codes = min(
      self.semantic.model.codebook_size, size // self.semantic.hop_length
    )
    return BatchInfo(
      size / (self.semantic.hop_length * self.semantic.frame_rate),
      'audio seconds',
      (HealthCheck('collapsed codebook', 'code_perplexity', codes),),
    )

  def _loss(self, params, collections, batch, rng, step):
    own = collections[PLAYER]
    mask_rng, noise_rng, distractor_rng, dropout_rng = jax.random.split(rng, 4)
    joined = step >= self._horizon.begins(self.contrastive_only)
    mels = self.semantic.log_mels(batch['waveform'])
    statistics = jax.tree.map(
      lambda new, old: jnp.where(joined, old, new),
      add_frames(own['statistics'], mels),
      own['statistics'],
    )
    mask = self._mask(mask_rng, mels)
    temperature = self.temperature(step)
    output, moved = self.semantic.model.apply(
      variables_of(params, own),
      standardise(statistics, mels),
      mask,
      own['latents'],
      noise_rng,
      temperature=temperature,
      deterministic=False,
      rngs={'dropout': dropout_rng},
      mutable=['batch_stats'],
    )
    metrics = self._metrics(output, mask, distractor_rng)
    total = self._total(metrics, joined.astype(jnp.float32))
    new = {
      'statistics': statistics,
      'latents': output.latent_statistics,
      'batch_stats': moved.get('batch_stats', {}),
    }
    metrics |= {'temperature': temperature}
    return total, ({**collections, PLAYER: new}, metrics)

  def temperature(self, step: Array) -> Array:
    """The Gumbel temperature: 2 to 0.5 over the run, geometrically."""
    share = self._horizon.share(step, last=-1)
    ratio = self.last_temperature / self.first_temperature
    return self.first_temperature * ratio**share

  @property
  def _horizon(self) -> Horizon:
    return Horizon(self.total_steps, self.earlier)

  def _mask(self, rng: PRNGKey, mels: Array) -> Array:
    return losses.span_mask(
      rng,
      len(mels),
      mels.shape[1] // frontend.MELS_PER_FRAME,
      probability=self.mask_probability,
      span=self.mask_span,
    )

  def _metrics(
    self,
    output: W2vBertOutput,
    mask: Array,
    rng: PRNGKey,
    axis: int | None = None,
  ) -> dict[str, Array]:
    """All terms; means over the batch, or over each example (axis 1)."""
    codes = output.quantized.codes
    contrastive, found = losses.contrastive_loss(
      output.context,
      output.quantized.values,
      codes,
      losses.draw_distractors(rng, mask, self.num_distractors),
      self.contrastive_temperature,
    )
    masked, hit = losses.masked_prediction_loss(output.logits, codes)
    used = perplexity(codes[..., None], self.semantic.model.codebook_size)[0]
    accuracy = losses.masked_mean(hit, mask, axis)
    collapsed = (
      used < _COLLAPSED_PERPLEXITY * self.semantic.model.codebook_size
    ) | (losses.masked_mean(hit, mask) > _COLLAPSED_ACCURACY)
    return {
      'contrastive_loss': losses.masked_mean(contrastive, mask, axis),
      'contrastive_accuracy': losses.masked_mean(found, mask, axis),
      'diversity_loss': losses.diversity_loss(output.quantized.probabilities),
      'masked_loss': losses.masked_mean(masked, mask, axis),
      'masked_accuracy': accuracy,
      'code_perplexity': used,
      'collapsed': collapsed.astype(jnp.float32),
    }

  def _total(self, metrics: Metrics, masked_weight: Array) -> Array:
    return (
      metrics['contrastive_loss']
      + self.diversity_weight * metrics['diversity_loss']
      + masked_weight * metrics['masked_loss']
    )
