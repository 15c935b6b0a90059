"""w2v-BERT as a game of one player: waveform [B, S] -> semantic features.

L = L_w + 0.1 L_d + L_m: contrastive, diversity, masked prediction.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts.array_types import (
  Latents,
  PRNGKey,
  PyTree,
  Spectrogram,
  Waveform,
)
from musiclm_jax.contracts.task import (
  Batch,
  Collections,
  LossFn,
  Metrics,
  Outlook,
  Params,
  Sign,
)
from musiclm_jax.nn.kmeans import perplexity
from musiclm_jax.nn.precision import exact
from musiclm_jax.w2v_bert import frontend, losses
from musiclm_jax.w2v_bert.model import W2vBert, W2vBertOutput
from musiclm_jax.w2v_bert.statistics import (
  add_frames,
  init_statistics,
  standardise,
)

PLAYER = 'w2v_bert'
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
    model: The network.
    total_steps: Of the training; schedules are shares of it.
    mask_probability: Of a span beginning at a frame.
    mask_span: Frames in a span.
    num_distractors: Of the contrastive loss.
    contrastive_temperature: κ.
    diversity_weight: Of L_d.
    first_temperature: Of the Gumbel softmax at the first step.
    last_temperature: At the last; it falls geometrically.
    contrastive_only: Share of the steps before L_m joins.
  """

  model: W2vBert
  total_steps: int
  mask_probability: float = 0.065
  mask_span: int = 10
  num_distractors: int = 100
  contrastive_temperature: float = 0.1
  diversity_weight: float = 0.1
  first_temperature: float = 2.0
  last_temperature: float = 0.5
  contrastive_only: float = 0.1

  frame_rate = 25.0
  hop_length = frontend.SAMPLES_PER_FRAME

  @property
  def feature_block(self) -> int:
    """Blocks of the masked-prediction module below the features: 7 of 12."""
    return max(1, round(7 / 12 * self.model.masked_blocks))

  @property
  def feature_dim(self) -> int:
    """Width of the features, D."""
    return self.model.embed_dim

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes parameters, and statistics of no frames."""
    mels = self._mels(batch['waveform'])
    mask = jnp.zeros(
      (len(mels), mels.shape[1] // frontend.MELS_PER_FRAME), bool
    )
    latents = init_statistics(self.model.latent_dim)
    variables = self.model.init(rng, mels, mask, latents, rng)
    collections = {
      'statistics': init_statistics(
        self.model.num_mels, frontend.TYPICAL_MEAN, frontend.TYPICAL_VARIANCE
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
    mels = self.inputs(collections, batch['waveform'])
    mask = self._mask(mask_rng, mels)
    output = self.model.apply(
      _variables(params, own), mels, mask, own['latents'], rngs[0]
    )
    metrics = self._metrics(output, mask, rngs[1], axis=1)
    metrics['loss'] = self._total(metrics, jnp.array(1.0))
    return {k: jnp.broadcast_to(v, len(mels)) for k, v in metrics.items()}

  def outlook(self, batch: Batch) -> Outlook:
    """Seconds of audio; targets that are all the same code."""
    size = batch['waveform'].size
    codes = min(self.model.codebook_size, size // self.hop_length)
    return Outlook(
      size / (self.hop_length * self.frame_rate),
      'audio seconds',
      (Sign('collapsed codebook', 'code_perplexity', codes),),
    )

  @exact
  def features(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> Latents:
    """Computes semantic features [B, S // 960, D], deterministic, unmasked.

    They leave block round(7/12 n) of the masked-prediction module's n
    (AudioLM §4.1); blocks above it are not computed.
    """
    own = collections[PLAYER]
    variables = dict(_variables(params, own))
    for name in variables.keys() & {'params', 'batch_stats'}:
      if 'masked_prediction' in variables[name]:
        first = jax.tree.map(
          lambda leaf: leaf[: self.feature_block],
          variables[name]['masked_prediction'],
        )
        variables[name] = {**variables[name], 'masked_prediction': first}
    model = self.model.clone(masked_blocks=self.feature_block)
    mels = self.inputs(collections, waveform)
    return model.apply(variables, mels, method='features')

  def inputs(self, collections: Collections, waveform: Waveform) -> Spectrogram:
    """Computes what the network is given, standardised [B, 4T, M]."""
    return standardise(collections[PLAYER]['statistics'], self._mels(waveform))

  def _loss(
    self,
    params: Params,
    collections: Collections,
    batch: Batch,
    rng: PRNGKey,
    step: Array,
  ) -> tuple[Array, tuple[Collections, Metrics]]:
    own = collections[PLAYER]
    mask_rng, noise_rng, distractor_rng, dropout_rng = jax.random.split(rng, 4)
    joined = step >= self.contrastive_only * self.total_steps
    mels = self._mels(batch['waveform'])
    statistics = jax.tree.map(
      lambda new, old: jnp.where(joined, old, new),
      add_frames(own['statistics'], mels),
      own['statistics'],
    )
    mask = self._mask(mask_rng, mels)
    temperature = self.temperature(step)
    output, moved = self.model.apply(
      _variables(params, own),
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
    share = jnp.clip(step / max(self.total_steps - 1, 1), 0.0, 1.0)
    ratio = self.last_temperature / self.first_temperature
    return self.first_temperature * ratio**share

  def _mels(self, waveform: Waveform) -> Spectrogram:
    mels = frontend.log_mels(waveform, self.model.num_mels)
    return frontend.cepstra(mels) if self.model.num_cepstra else mels

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
    used = perplexity(codes[..., None], self.model.codebook_size)[0]
    accuracy = losses.masked_mean(hit, mask, axis)
    collapsed = (used < _COLLAPSED_PERPLEXITY * self.model.codebook_size) | (
      losses.masked_mean(hit, mask) > _COLLAPSED_ACCURACY
    )
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


def _variables(params: Params, own: PyTree) -> dict[str, PyTree]:
  # Without BatchNorm they are empty, and a stored network has no empty nodes.
  statistics = own.get('batch_stats', {})
  return {'params': params[PLAYER], 'batch_stats': statistics}
