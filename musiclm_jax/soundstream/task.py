"""SoundStream's training: the codec against its discriminators.

waveform [B, S] -> latents [B, T, D] -> codes [B, T, Q] -> waveform [B, S]
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from musiclm_jax.contracts.array_types import Latents, PRNGKey, Waveform
from musiclm_jax.contracts.audio import SAMPLE_RATE
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
from musiclm_jax.nn import kmeans, quantizer
from musiclm_jax.soundstream import losses
from musiclm_jax.soundstream.codec import Codec
from musiclm_jax.soundstream.discriminators import (
  DiscriminatorOutput,
  Discriminators,
)

# One entry of each level stays zero: silence is coded exactly.
_ZERO_ENTRIES = 1
_LOGGED_SAMPLES = 2


@dataclasses.dataclass(frozen=True)
class SoundStreamTask:
  """Trains the codec and its discriminators.

  Batches hold `waveform` [B, S], what shall come out. Where the codec
  denoises they also hold `input` [B, S], what goes in, and `denoise` [B]:
  where true, `waveform` is `input` without its noise. All losses compare with
  `waveform`.

  Attributes:
    codec: What is trained.
    discriminators: The other player.
    total_steps: Of the training; shares below refer to it.
    reconstruction_weight: Of the multi-scale mel loss (1).
    mel_scales: (window, mels) of each scale of the mel loss; the paper's are
      `losses.SCALES`.
    mel_log_only: Whether that loss compares log-mels alone.
    log_stft_weight: Of the loss at linear frequencies (the paper has none).
    waveform_weight: Of the waveform loss (the paper has none).
    waveform_until_adversarial: Whether the waveform loss ends where the codec
      begins to feel the discriminators.
    adversarial_weight: Of the codec's hinge (1).
    feature_weight: Of feature matching (100).
    relative_features: Whether feature distances are divided by the mean real
      feature of their layer; 100 is too much for them.
    commitment_weight: Of the commitment loss (the paper has none; 0.25).
    adversarial_start: Share of the steps without any discriminator; 1 is a
      training without them, also where it goes on with more steps.
    adversarial_warmup: Share of the steps that discriminators learn before
      the codec feels them.
    quantizer_dropout: Probability that an example uses n ~ U{1 ... Q} levels
      only.
    codebook_decay: Of the codebooks' running means (0.99).
    frozen_codes: Whether encoder and codebooks stay as they are, so that what
      has learned from their codes, such as language models, stays right while
      the decoder goes on learning.
    dead_threshold: See `quantizer.update` (2).
    kmeans_iterations: Of the codebooks' first fit.
    discriminated: Whether the discriminators play; see `at`.
    opposed: Whether the codec feels them.
    earlier: What `total_steps` was before; see `Horizon`.
  """

  codec: Codec
  discriminators: Discriminators
  total_steps: int
  reconstruction_weight: float = 1.0
  mel_scales: tuple[tuple[int, int], ...] = losses.SCALES
  mel_log_only: bool = False
  log_stft_weight: float = 0.0
  waveform_weight: float = 0.0
  waveform_until_adversarial: bool = False
  adversarial_weight: float = 1.0
  feature_weight: float = 100.0
  relative_features: bool = False
  commitment_weight: float = 0.25
  adversarial_start: float = 0.0
  adversarial_warmup: float = 0.0
  quantizer_dropout: float = 0.5
  codebook_decay: float = 0.99
  frozen_codes: bool = False
  dead_threshold: float = 2.0
  kmeans_iterations: int = 10
  discriminated: bool = True
  opposed: bool = True
  earlier: Earlier = ()
  sample_rate: ClassVar[int] = SAMPLE_RATE  # of `audio_samples`

  def at(self, step: int) -> 'SoundStreamTask':
    """Leaves out the discriminators until it is their turn."""
    felt = self.adversarial_start + self.adversarial_warmup
    return dataclasses.replace(
      self,
      discriminated=step >= self._begins(self.adversarial_start),
      opposed=step >= self._begins(felt),
    )

  def _begins(self, share: float) -> int | float:
    """The first step after a share of the training, infinite for never."""
    if self.adversarial_start >= 1.0:
      return math.inf
    return round(Horizon(self.total_steps, self.earlier).begins(share))

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes both players' parameters and the empty codebooks."""
    codec_rng, discriminator_rng, _ = jax.random.split(rng, 3)
    waveform = jnp.zeros_like(batch['waveform'][:1])
    codec = self.codec.model.init(codec_rng, waveform)
    discriminators = self.discriminators.init(discriminator_rng, waveform)
    params = {
      'codec': codec['params'],
      'discriminators': discriminators['params'],
    }
    codebooks = quantizer.init_codebooks(
      self.codec.num_quantizers,
      self.codec.codebook_size,
      self.codec.model.latent_dim,
    )
    return params, {'codec': codebooks}

  def losses(self) -> Mapping[str, LossFn]:
    """Returns both players' losses, the codec's first."""
    return {
      'codec': self._codec_loss,
      'discriminators': self._discriminator_loss,
    }

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Measures the reconstruction from all levels' codes, per example."""
    target = batch['waveform']
    output = self._through_codes(params, collections, batch)
    return {
      'log_mel_distance': losses.log_mel_distance(target, output),
      'si_sdr': losses.si_sdr(target, output),
    }

  def audio_samples(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Mapping[str, Waveform]:
    """Returns the first waveforms, and what comes of their codes."""
    samples = {
      'original': batch['waveform'],
      'reconstruction': self._through_codes(params, collections, batch),
    }
    if 'input' in batch:
      samples['noisy'] = batch['input']
    return {name: rows[:_LOGGED_SAMPLES] for name, rows in samples.items()}

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Seconds of audio; codebooks that collapse, idle discriminators."""
    size = batch['waveform'].size
    codes = min(self.codec.codebook_size, size // self.codec.hop_length)
    begins = self._begins(self.adversarial_start)
    health_checks = [
      HealthCheck('collapsed codebook', _perplexity(level), codes)
      for level in range(self.codec.num_quantizers)
    ]
    for metric, silent in (
      ('loss_discriminators', losses.SILENT_DISCRIMINATOR),
      ('grad_norm_discriminators', 0.0),
    ):
      health_checks.append(
        HealthCheck('silent discriminator', metric, silent, begins)
      )
    return BatchInfo(
      size / self.sample_rate, 'audio seconds', tuple(health_checks)
    )

  def _through_codes(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Waveform:
    codes = self.codec.encode(params, collections, *_inputs(batch))
    return self.codec.decode(params, collections, codes)

  def _reconstruct(
    self,
    params: Params,
    collections: Collections,
    batch: Batch,
    num_active: Array,
  ) -> tuple[Waveform, Latents, quantizer.Quantized]:
    if self.frozen_codes:
      codec = {
        module: part if module == 'decoder' else jax.lax.stop_gradient(part)
        for module, part in params['codec'].items()
      }
      params = {**params, 'codec': codec}
    return self.codec.reconstruct(
      params, collections, *_inputs(batch), num_active
    )

  def _discriminate(
    self, params: Params, *waveforms: Waveform
  ) -> list[tuple[DiscriminatorOutput, ...]]:
    variables = {'params': params['discriminators']}
    return [self.discriminators.apply(variables, x) for x in waveforms]

  def _draw_levels(self, rng: PRNGKey, batch_size: int) -> Array:
    """Draws how many levels each example uses, [B] in 1 ... Q."""
    drop_rng, level_rng = jax.random.split(rng)
    drop = jax.random.bernoulli(drop_rng, self.quantizer_dropout, (batch_size,))
    fewer = jax.random.randint(
      level_rng, (batch_size,), 1, self.codec.num_quantizers + 1
    )
    return jnp.where(drop, fewer, self.codec.num_quantizers)

  def _codec_loss(self, params, collections, batch, rng, step):
    """Computes the codec's loss and moves its codebooks."""
    del step
    target = batch['waveform']
    level_rng, book_rng = jax.random.split(rng)
    num_active = self._draw_levels(level_rng, len(target))
    output, latents, quantized = self._reconstruct(
      params, collections, batch, num_active
    )

    adversarial = feature = jnp.zeros(())
    if self.opposed:
      real, fake = self._discriminate(params, target, output)
      adversarial = losses.adversarial_loss(fake)
      feature = losses.feature_loss(real, fake, relative=self.relative_features)
    reconstruction = losses.reconstruction_loss(
      target, output, self.mel_scales, log_only=self.mel_log_only
    )
    waveform = losses.waveform_loss(target, output)
    ended = self.opposed and self.waveform_until_adversarial
    waveform_weight = 0.0 if ended else self.waveform_weight
    commitment = jnp.mean(quantized.commitment)
    loss = (
      self.reconstruction_weight * reconstruction
      + waveform_weight * waveform
      + self.adversarial_weight * adversarial
      + self.feature_weight * feature
      + self.commitment_weight * commitment
    )
    codebooks = collections['codec']
    if not self.frozen_codes:
      codebooks = quantizer.update(
        codebooks,
        latents,
        quantized.codes,
        book_rng,
        decay=self.codebook_decay,
        dead_threshold=self.dead_threshold,
        kmeans_iterations=self.kmeans_iterations,
        zero_entries=_ZERO_ENTRIES,
      )
    used = kmeans.perplexity(quantized.codes, self.codec.codebook_size)
    metrics = {
      'reconstruction': reconstruction,
      'waveform': waveform,
      'adversarial': adversarial,
      'feature': feature,
      'commitment': commitment,
      'perplexity': jnp.mean(used),
      **{_perplexity(level): value for level, value in enumerate(used)},
    }
    if self.log_stft_weight:
      metrics['log_stft'] = losses.log_stft_loss(target, output)
      loss += self.log_stft_weight * metrics['log_stft']
    return loss, ({**collections, 'codec': codebooks}, metrics)

  def _discriminator_loss(self, params, collections, batch, rng, step):
    """Computes the discriminators' hinge on real and decoded waveforms."""
    del step
    if not self.discriminated:
      return jnp.zeros(()), (collections, {})
    target = batch['waveform']
    level_rng, _ = jax.random.split(rng)
    num_active = self._draw_levels(level_rng, len(target))
    output, _, _ = self._reconstruct(params, collections, batch, num_active)
    output = jax.lax.stop_gradient(output)
    # What the codec's loss computes too, so XLA computes it once.
    real, fake = self._discriminate(params, target, output)
    return losses.discriminator_loss(real, fake), (collections, {})


def _perplexity(level: int) -> str:
  """The metric of a level's use, levels counted from 1."""
  return f'perplexity_level_{level + 1}'


def _inputs(batch: Batch) -> tuple[Waveform, Array | None]:
  """What goes in, and of which rows noise shall be taken out."""
  return batch.get('input', batch['waveform']), batch.get('denoise')
