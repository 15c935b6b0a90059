"""MuLan tokens: embeddings [B, 128] -> codes [B, 12].

A game whose one player owns codebooks and no parameters: first both means,
then a residual quantizer of centred audio embeddings.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Embedding, PRNGKey, PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import (
  Batch,
  Collections,
  LossFn,
  Metrics,
  Params,
)
from musiclm_jax.nn import quantizer
from musiclm_jax.nn.norm import unit

PLAYER = 'mulan_rvq'
Modality = Literal['audio', 'text']
_REPORTED_LEVELS = 3  # deeper ones hardly ever agree


@dataclasses.dataclass(frozen=True)
class MulanRvqTask:
  """Fits the quantizer of the hand-over from text to audio.

  Batches hold `audio` and `text` [B, D], unit embeddings of pairs by the
  frozen MuLan, audio averaged over windows as the LM will see it. Audio alone
  moves the codebooks; text moves its mean. An embedding is centred by the
  mean of its own modality and scaled to length 1 before it is quantized, so
  that the constant offset between modalities does not become tokens.

  The player's collections are `audio_sum`, `text_sum` [D] and `count`, which
  move in the first `statistics_steps`, and `codebooks`, which move after.
  Nothing moves outside of training.

  Attributes:
    num_levels: Q.
    codebook_size: K.
    total_steps: Of the fit, statistics included.
    statistics_steps: First steps, which only gather the means.
    decay: Of the codebooks' running means.
    dead_threshold: See `nn.quantizer.update`.
    kmeans_iterations: On the first batch after the statistics.
    pieces_per_code: Fewest distinct training pieces per code of a level.

  Raises:
    UsageError: At construction, if no step is left for one of the phases.
  """

  num_levels: int
  codebook_size: int
  total_steps: int
  statistics_steps: int
  decay: float = 0.95
  dead_threshold: float = 1.0
  kmeans_iterations: int = 20
  pieces_per_code: int = 20

  def __post_init__(self):
    if not 0 < self.statistics_steps < self.total_steps:
      raise UsageError(
        f'the MuLan quantizer needs 0 < statistics_steps < total_steps, came '
        f'{self.statistics_steps} and {self.total_steps}: set '
        'config.schedule.total_steps or config.loss.statistics_steps'
      )

  def check_corpus(self, num_pieces: int) -> None:
    """Refuses a corpus that is too small for the codebooks.

    Args:
      num_pieces: Distinct training pieces.

    Raises:
      UsageError: If there are fewer than `pieces_per_code` for each code.
    """
    needed = self.pieces_per_code * self.codebook_size
    if num_pieces < needed:
      raise UsageError(
        f'{self.codebook_size} MuLan codes a level need {needed} training '
        f'pieces, this corpus has {num_pieces}: set '
        f'config.model.codebook_size to at most '
        f'{num_pieces // self.pieces_per_code}, or use more music'
      )

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes empty codebooks.

    Raises:
      UsageError: If the batch is too small for a first fit, or the fit as a
        whole sees too few embeddings.
    """
    size, dim = batch['audio'].shape
    seen = size * (self.total_steps - self.statistics_steps)
    needed = self.pieces_per_code * self.codebook_size
    if size < 2 * self.codebook_size or seen < needed:
      raise UsageError(
        f'{self.codebook_size} MuLan codes a level need batches of at least '
        f'{2 * self.codebook_size} and {needed} embeddings in all; came '
        f'{size} and {seen}: raise batch_size or total_steps, or lower '
        'codebook_size'
      )
    collections = {
      'audio_sum': jnp.zeros(dim),
      'text_sum': jnp.zeros(dim),
      'count': jnp.zeros(()),
      'codebooks': quantizer.init_codebooks(
        rng, self.num_levels, self.codebook_size, dim
      ),
    }
    return {PLAYER: {}}, {PLAYER: collections}

  def losses(self) -> dict[str, LossFn]:
    """Returns the one player's loss; it has no gradient."""
    return {PLAYER: self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Distortion and agreement of text and audio codes, per example.

    `distortion_*` is the squared distance of a centred unit vector to its
    quantized value: 1 before any code. `agreement_k` tells whether text and
    audio code of level k agree, `agreement_chance_k` whether a text's code
    agrees with the audio code of the other rows, on average.
    """
    del params
    codes = {}
    metrics = {}
    for modality in ('audio', 'text'):
      found = self.quantize(collections, batch[modality], modality)
      codes[modality] = found
      metrics[f'distortion_{modality}'] = self._distortion(
        collections, batch[modality], modality, found
      )
    audio, text = codes['audio'], codes['text']
    others = max(len(audio) - 1, 1)
    for level in range(min(_REPORTED_LEVELS, self.num_levels)):
      equal = text[:, None, level] == audio[None, :, level]
      own_equal = jnp.diagonal(equal).astype(jnp.float32)
      metrics[f'agreement_{level + 1}'] = own_equal
      metrics[f'agreement_chance_{level + 1}'] = (
        equal.sum(axis=1) - own_equal
      ) / others
    return metrics

  def means(
    self, collections: Collections
  ) -> tuple[Float[Array, ' D'], Float[Array, ' D']]:
    """Returns the mean embeddings of audio and of text."""
    own = collections[PLAYER]
    count = jnp.maximum(own['count'], 1.0)
    return own['audio_sum'] / count, own['text_sum'] / count

  def centre(
    self, collections: Collections, embedding: Embedding, modality: Modality
  ) -> Embedding:
    """Subtracts the modality's mean and scales to length 1.

    Embeddings of both modalities are scaled alike (spec §9, mistake 16).
    """
    audio, text = self.means(collections)
    mean = {'audio': audio, 'text': text}[modality]
    return unit(unit(embedding) - mean)

  def quantize(
    self, collections: Collections, embedding: Embedding, modality: Modality
  ) -> Int[Array, 'B Q']:
    """Turns embeddings into MuLan tokens, int32 [B, Q] in [0, K).

    Args:
      collections: By player; never changed here.
      embedding: MuLan's, [B, D].
      modality: Whose mean is subtracted.
    """
    x = self.centre(collections, embedding, modality)
    codebooks = collections[PLAYER]['codebooks']
    return quantizer.codes_of(codebooks, x[:, None])[:, 0]

  def _loss(
    self,
    params: Params,
    collections: Collections,
    batch: Batch,
    rng: PRNGKey,
    step: Array,
  ) -> tuple[Array, tuple[Collections, Metrics]]:
    del params
    own = jax.lax.cond(
      step < self.statistics_steps, _gather, self._fit, collections, batch, rng
    )
    new = {**collections, PLAYER: own}
    metrics = {k: v.mean() for k, v in self.evaluate({}, new, batch).items()}
    codes = self.quantize(new, batch['audio'], 'audio')
    used = quantizer.perplexity(codes, self.codebook_size)
    metrics |= {
      'perplexity_first': used[0],
      'perplexity_last': used[-1],
      'fitted': own['codebooks']['initialized'],
    }
    return metrics['distortion_audio'], (new, metrics)

  def _fit(
    self, collections: Collections, batch: Batch, rng: PRNGKey
  ) -> PyTree:
    """Moves the codebooks towards the batch's audio."""
    own = collections[PLAYER]
    x = self.centre(collections, batch['audio'], 'audio')[:, None]
    codebooks = quantizer.update(
      own['codebooks'],
      x,
      quantizer.codes_of(own['codebooks'], x),
      rng,
      decay=self.decay,
      dead_threshold=self.dead_threshold,
      kmeans_iterations=self.kmeans_iterations,
    )
    return {**own, 'codebooks': codebooks}

  def _distortion(
    self,
    collections: Collections,
    embedding: Embedding,
    modality: Modality,
    codes: Int[Array, 'B Q'],
  ) -> Float[Array, ' B']:
    """Squared distance of centred embeddings to their quantized values."""
    centred = self.centre(collections, embedding, modality)
    codebooks = collections[PLAYER]['codebooks']
    values = quantizer.values_of(codebooks, codes[:, None])[:, 0]
    return jnp.sum((centred - values) ** 2, axis=-1)


def _gather(collections: Collections, batch: Batch, rng: PRNGKey) -> PyTree:
  """Adds the batch to both means."""
  del rng
  own = collections[PLAYER]
  return {
    **own,
    'audio_sum': own['audio_sum'] + unit(batch['audio']).sum(axis=0),
    'text_sum': own['text_sum'] + unit(batch['text']).sum(axis=0),
    'count': own['count'] + len(batch['audio']),
  }
