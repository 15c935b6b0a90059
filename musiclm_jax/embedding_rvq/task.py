"""Fits the quantizers of embeddings [B, D] -> codes [B, Q].

Its one player owns codebooks and no parameters: first the means, then a
residual quantizer of centred audio embeddings.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from musiclm_jax.contracts.array_types import PRNGKey, PyTree
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
from musiclm_jax.embedding_rvq.quantizer import EmbeddingQuantizer, sum_name
from musiclm_jax.nn import kmeans, quantizer
from musiclm_jax.nn.embedding import unit

_REPORTED_LEVELS = 3  # deeper ones hardly ever agree


@dataclasses.dataclass(frozen=True)
class EmbeddingRvqTask:
  """Fits the quantizer of a frozen network's embeddings.

  Batches hold unit embeddings [B, D], one entry a modality: `audio` and `text`
  of pairs where MuLan hands over from text to audio, audio averaged over
  windows as the LM will see it; `audio` alone where windows of music become
  melody tokens. The first modality alone moves the codebooks, every other one
  its mean.

  The player's collections are `<modality>_sum` [D] and `count`, which move in
  the first `statistics_steps`, and `codebooks`, which move after. Nothing
  moves outside of training.

  Attributes:
    rvq: What is fitted.
    modalities: Keys of a batch, the one that is quantized first.
    total_steps: Of the fit, statistics included.
    statistics_steps: First steps, which only gather the means.
    decay: Of the codebooks' running means.
    dead_threshold: See `nn.quantizer.update`.
    kmeans_iterations: On the first batch after the statistics.
    split_share: See `nn.quantizer.update`; 0 lets points take the place of dead
      codes, of which deep levels then keep a few in use.
    pieces_per_code: Fewest embeddings that the fit sees per code of a level.

  Raises:
    UsageError: At construction, if no step is left for one of the phases.
  """

  rvq: EmbeddingQuantizer
  modalities: tuple[str, ...]
  total_steps: int
  statistics_steps: int
  decay: float = 0.95
  dead_threshold: float = 1.0
  kmeans_iterations: int = 20
  pieces_per_code: int = 20
  split_share: float = 0.0

  def __post_init__(self):
    kmeans.check_phases(
      self.rvq.player, self.statistics_steps, self.total_steps
    )

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes empty codebooks.

    Raises:
      UsageError: If the batch is too small for a first fit, or the fit as a
        whole sees too few embeddings.
    """
    del rng
    size, dim = batch[self.modalities[0]].shape
    seen = size * (self.total_steps - self.statistics_steps)
    codes = self.rvq.codebook_size
    needed = self.pieces_per_code * codes
    if size < 2 * codes or seen < needed:
      raise UsageError(
        f'{self.rvq.player}: {codes} codes a level need batches of '
        f'at least {2 * codes} and {needed} embeddings in all; '
        f'got {size} and {seen}: raise batch_size or total_steps, or lower '
        'codebook_size'
      )
    collections = {
      **{sum_name(modality): jnp.zeros(dim) for modality in self.modalities},
      'count': jnp.zeros(()),
      'codebooks': quantizer.init_codebooks(self.rvq.num_levels, codes, dim),
    }
    return {self.rvq.player: {}}, {self.rvq.player: collections}

  def losses(self) -> dict[str, LossFn]:
    """Returns the one player's loss; it has no gradient."""
    return {self.rvq.player: self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Distortion and agreement between modalities, per example.

    `distortion_*` is the squared distance of a centred unit vector to its
    quantized value: 1 before any code. Where there are audio and text,
    `agreement_k` tells whether their codes of level k agree, and
    `agreement_chance_k` whether a text's code agrees with the audio code of
    the other rows, on average.
    """
    del params
    codebooks = collections[self.rvq.player]['codebooks']
    codes, metrics = {}, {}
    for modality in self.modalities:
      x = self.rvq.centre(collections, batch[modality], modality)
      found = quantizer.codes_of(codebooks, x[:, None])
      values = quantizer.values_of(codebooks, found)[:, 0]
      metrics[f'distortion_{modality}'] = jnp.sum((x - values) ** 2, axis=-1)
      codes[modality] = found[:, 0]
    first, *others = codes.values()
    for other in others:
      metrics |= _agreement(first, other)
    return metrics

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Embeddings; a first or last codebook that collapses."""
    size = len(batch[self.modalities[0]])
    codes = min(self.rvq.codebook_size, size)
    first, last = (
      HealthCheck('collapsed codebook', metric, codes, self.statistics_steps)
      for metric in ('perplexity_first', 'perplexity_last')
    )
    return BatchInfo(size, 'embeddings', (first, last))

  def _loss(self, params, collections, batch, rng, step):
    del params
    own = jax.lax.cond(
      step < self.statistics_steps,
      self._gather,
      self._fit,
      collections,
      batch,
      rng,
    )
    new = {**collections, self.rvq.player: own}
    metrics = {k: v.mean() for k, v in self.evaluate({}, new, batch).items()}
    first = self.modalities[0]
    codes = self.rvq.quantize(new, batch[first], first)
    used = kmeans.perplexity(codes, self.rvq.codebook_size)
    metrics |= {
      'perplexity_first': used[0],
      'perplexity_last': used[-1],
      'fitted': own['codebooks']['initialized'],
    }
    return metrics[f'distortion_{first}'], (new, metrics)

  def _gather(
    self, collections: Collections, batch: Batch, rng: PRNGKey
  ) -> PyTree:
    """Adds the batch to the means."""
    del rng
    moved = dict(collections[self.rvq.player])
    for modality in self.modalities:
      moved[sum_name(modality)] += unit(batch[modality]).sum(axis=0)
    moved['count'] += len(batch[self.modalities[0]])
    return moved

  def _fit(
    self, collections: Collections, batch: Batch, rng: PRNGKey
  ) -> PyTree:
    """Moves the codebooks towards the batch's first modality."""
    own, first = collections[self.rvq.player], self.modalities[0]
    x = self.rvq.centre(collections, batch[first], first)[:, None]
    codebooks = quantizer.update(
      own['codebooks'],
      x,
      quantizer.codes_of(own['codebooks'], x),
      rng,
      decay=self.decay,
      dead_threshold=self.dead_threshold,
      kmeans_iterations=self.kmeans_iterations,
      split_share=self.split_share,
    )
    return {**own, 'codebooks': codebooks}


def _agreement(audio: Int[Array, 'B Q'], text: Int[Array, 'B Q']) -> Metrics:
  """How often the codes of pairs are equal, and those of strangers."""
  others = max(len(audio) - 1, 1)
  metrics = {}
  for level in range(min(_REPORTED_LEVELS, audio.shape[1])):
    equal = text[:, None, level] == audio[None, :, level]
    own = jnp.diagonal(equal).astype(jnp.float32)
    metrics[f'agreement_{level + 1}'] = own
    chance = (equal.sum(axis=1) - own) / others
    metrics[f'agreement_chance_{level + 1}'] = chance
  return metrics
