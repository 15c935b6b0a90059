"""Training of a token LM: one player, `lm`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import PRNGKey
from musiclm_jax.contracts.task import (
  Batch,
  BatchInfo,
  Collections,
  HealthCheck,
  LossFn,
  Metrics,
  Params,
)
from musiclm_jax.token_lm.language_model import (
  UNKNOWN,
  LanguageModel,
  token_nll,
  without_semantic,
)


@dataclasses.dataclass(frozen=True)
class TokenLMTask:
  """Learns to continue the predicted segment of a layout.

  Batches hold int codes of one crop: `mulan` [B, 12], `semantic` [B, T],
  `acoustic` [B, T, Q] with all levels and, where the layout has it, `melody`
  [B, N, 24]; each layout takes what it needs. A code below 0 of a stream
  that the layout can drop is not known: its token is masked.

  Attributes:
    lm: What is trained, its layout included.
    all_levels_probability: Of keeping all MuLan levels of an example in
      training; 1.0 is the paper.
    no_levels_probability: Of masking all of them; in what remains a uniform
      1 … levels - 1 are kept.
    no_melody_probability: Of masking an example's whole melody in training.
    no_semantic_probability: Of masking all semantic and MuLan tokens that
      condition an example in training: the model that guidance pushes away
      from, where it shall push towards semantic tokens.
    wrong_level_probability: Of a MuLan level, if those above it are right, to
      be another example's in training, and with it all below. Text tokens are
      wrong so often; who has met no wrong ones trusts them too much.
  """

  lm: LanguageModel
  all_levels_probability: float = 1.0
  no_levels_probability: float = 0.0
  no_melody_probability: float = 0.0
  no_semantic_probability: float = 0.0
  wrong_level_probability: float = 0.0
  # YNNPACK leaves one of two threads idle in the products of attention's tiles.
  compiler_options: ClassVar[Mapping[str, Mapping[str, str]]] = {
    'cpu': {'xla_cpu_experimental_ynn_fusion_type': ''}
  }

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes `{'lm': …}` from the layout; see `Task`."""
    tokens = self.lm.tokens(batch)
    return {'lm': self.lm.model.init(rng, tokens)['params']}, {}

  def losses(self) -> Mapping[str, LossFn]:
    """The mean negative log-likelihood of predicted tokens; see `Task`."""
    return {'lm': self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """NLL in nats per token with its own, complete conditioning.

    Returns:
      `nll`, `accuracy` and `nll_level_<n>` where there are several levels,
      each [B].
    """
    logits, codes = self.lm.predict(params, self.lm.tokens(batch), batch)
    first = self.lm.layout.predicted.first_level
    hits = (logits.argmax(-1) == codes).astype(jnp.float32)
    return by_level(token_nll(logits, codes), first) | {
      'accuracy': hits.mean(axis=(1, 2))
    }

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Tokens, conditioning included; a loss that stays at that of a guess."""
    layout = self.lm.layout
    guess = math.log(layout.predicted.codebook_size)
    return BatchInfo(
      len(batch['mulan']) * layout.num_tokens,
      'tokens',
      (HealthCheck('at chance', 'loss', guess),),
    )

  def _without_melodies(self, batch: Batch, rng: PRNGKey) -> Batch:
    """Forgets the melody of some examples."""
    melody = batch['melody']
    draws = jax.random.uniform(rng, (len(melody), 1, 1))
    forgotten = draws < self.no_melody_probability
    return batch | {'melody': jnp.where(forgotten, UNKNOWN, melody)}

  def _loss(self, params, collections, batch, rng, step):
    """Conditioning enters neither the sum nor the count."""
    level_rng, dropout_rng = jax.random.split(rng)
    kept = draw_num_levels(
      level_rng,
      batch['mulan'].shape[0],
      self.lm.layout.mulan.num_levels,
      self.all_levels_probability,
      self.no_levels_probability,
    )
    if self.lm.layout.melody:
      # The next key after those of `split`: without a melody nothing changes.
      batch = self._without_melodies(batch, jax.random.fold_in(rng, 2))
    if self.wrong_level_probability:
      batch = with_wrong_levels(
        batch, jax.random.fold_in(rng, 4), self.wrong_level_probability
      )
    if 'semantic' in self.lm.layout.dropped:
      draws = jax.random.uniform(jax.random.fold_in(rng, 3), kept.shape)
      free = draws < self.no_semantic_probability
      batch, kept = without_semantic(batch, free), jnp.where(free, 0, kept)
    logits, codes = self.lm.predict(
      params,
      self.lm.tokens(batch, kept),
      batch,
      deterministic=False,
      rngs={'dropout': dropout_rng},
    )
    first = self.lm.layout.predicted.first_level
    nll = by_level(token_nll(logits, codes), first)
    metrics = {name: values.mean() for name, values in nll.items()}
    return metrics['nll'], ({}, metrics)


def by_level(
  nll: Float[Array, 'B T Q'], first_level: int
) -> Mapping[str, Array]:
  """Averages per example, over all tokens and over each level's tokens.

  Args:
    nll: Of each token.
    first_level: Of the stream's levels, the one at Q's index 0; papers count
      from 1.

  Returns:
    `nll` and, for several levels, `nll_level_<n>`, each [B].
  """
  metrics = {'nll': nll.mean(axis=(1, 2))}
  if nll.shape[2] > 1:
    for q in range(nll.shape[2]):
      metrics[f'nll_level_{first_level + q + 1}'] = nll[:, :, q].mean(axis=1)
  return metrics


def with_wrong_levels(batch: Batch, rng: PRNGKey, probability: float) -> Batch:
  """Takes the deeper MuLan levels of some examples from others.

  Args:
    batch: With `mulan` [B, 12].
    rng: A key.
    probability: See `TokenLMTask.wrong_level_probability`.
  """
  mulan = batch['mulan']
  draws = jax.random.uniform(rng, mulan.shape) < probability
  wrong = jnp.cumsum(draws, axis=1) > 0
  return {**batch, 'mulan': jnp.where(wrong, jnp.roll(mulan, 1, 0), mulan)}


def draw_num_levels(
  rng: PRNGKey,
  batch_size: int,
  num_levels: int,
  all_levels_probability: float,
  no_levels_probability: float,
) -> Int[Array, 'B']:
  """Draws how many MuLan levels each example keeps.

  Deep levels of text and audio never agree, so the LM must learn to do with
  few; none at all is the unconditional model that guidance needs.

  Args:
    rng: A key.
    batch_size: B.
    num_levels: Of the MuLan RVQ.
    all_levels_probability: Of keeping all levels; 1.0 is the paper.
    no_levels_probability: Of keeping none; in what remains a uniform
      1 … num_levels - 1 are kept.
  """
  kind_rng, count_rng = jax.random.split(rng)
  kind = jax.random.uniform(kind_rng, (batch_size,))
  some = jax.random.randint(count_rng, (batch_size,), 1, max(num_levels, 2))
  with_all = kind < all_levels_probability
  with_none = kind < all_levels_probability + no_levels_probability
  return jnp.select([with_all, with_none], [num_levels, 0], some)
