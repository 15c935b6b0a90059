"""Training of the parallel LM: one player, `lm`."""

import dataclasses
import math
from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from musiclm_jax.contracts.array_types import Codes, PRNGKey
from musiclm_jax.contracts.task import (
  Batch,
  BatchInfo,
  Collections,
  HealthCheck,
  LossFn,
  Metrics,
  Params,
)
from musiclm_jax.parallel_lm.decoder import ParallelDecoder
from musiclm_jax.token_lm.language_model import (
  UNKNOWN,
  codes_of,
  token_nll,
  without_semantic,
)
from musiclm_jax.token_lm.task import draw_num_levels, with_wrong_levels


@flax.struct.dataclass
class Masked:
  """What of a batch is hidden.

  Attributes:
    hidden: Codes that are not read.
    asked: Frames whose code at the level in question is hidden, and learned.
  """

  hidden: Bool[Array, 'B T Q']
  asked: Bool[Array, 'B T']


@dataclasses.dataclass(frozen=True)
class ParallelTask:
  """Learns to tell masked codes of a level from all that is known.

  Batches are those of `TokenLMTask`, the whole of `acoustic` included.

  Attributes:
    decoder: What is trained, its layout included.
    all_levels_probability: See `TokenLMTask`.
    no_levels_probability: See `TokenLMTask`.
    no_semantic_probability: See `TokenLMTask`.
    wrong_level_probability: See `TokenLMTask`.
    first_level_probability: Of an example to be about the first level, which
      takes most rounds of decoding; in what remains all levels are as likely.
      0.0 is the paper.
  """

  decoder: ParallelDecoder
  all_levels_probability: float = 1.0
  no_levels_probability: float = 0.0
  no_semantic_probability: float = 0.0
  wrong_level_probability: float = 0.0
  first_level_probability: float = 0.0

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes `{'lm': …}` from the layout; see `Task`."""
    read = self.decoder.conditioning(batch)
    made = self.decoder.model.init(rng, read, self._codes(batch), 0)
    return {'lm': made['params']}, {}

  def losses(self) -> Mapping[str, LossFn]:
    """The mean negative log-likelihood of masked codes; see `Task`."""
    return {'lm': self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """NLL in nats per masked code, of each level, its conditioning complete.

    The masks of an example are always the same.

    Returns:
      `nll` and `accuracy`, means over levels, and `nll_level_<n>`, each [B].
    """
    codes, read = self._codes(batch), self.decoder.conditioning(batch)
    rows, _, levels = codes.shape
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    keys = fold(jax.random.key(0), jnp.arange(rows))

    def one(level: Array) -> tuple[Array, Array]:
      asked, logits, right = self._asked(
        params, read, codes, jnp.broadcast_to(level, rows), keys
      )
      nll = token_nll(logits, right)
      hits = logits.argmax(axis=-1) == right
      count = asked.sum(axis=1)
      return tuple((asked * x).sum(axis=1) / count for x in (nll, hits))

    nll, accuracy = jax.lax.map(one, jnp.arange(levels))
    named = {f'nll_level_{q + 1}': nll[q] for q in range(levels)}
    return {'nll': nll.mean(axis=0), 'accuracy': accuracy.mean(axis=0)} | named

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Tokens, conditioning included; a loss that stays at that of a guess."""
    layout = self.decoder.layout
    guess = math.log(layout.predicted.codebook_size)
    return BatchInfo(
      len(batch['mulan']) * layout.num_tokens,
      'tokens',
      (HealthCheck('at chance', 'loss', guess),),
    )

  def _codes(self, batch: Batch) -> Codes:
    return codes_of(batch, self.decoder.layout.predicted)

  def _asked(
    self,
    params: Params,
    read: list[Codes],
    codes: Codes,
    level: Int[Array, 'B'],
    keys: PRNGKey,
    **options,
  ) -> tuple[Bool[Array, 'B T'], Float[Array, 'B T K'], Int[Array, 'B T']]:
    """Which codes of a level are asked for, what is said, what is right."""
    masked = jax.vmap(draw_masks, (0, 0, None, None))(
      keys, level, *codes.shape[1:]
    )
    known = jnp.where(masked.hidden, UNKNOWN, codes)
    logits = self.decoder.logits(params, read, known, level, **options)
    right = jnp.take_along_axis(codes, level[:, None, None], axis=2)[..., 0]
    return masked.asked, logits, right

  def _loss(self, params, collections, batch, rng, step):
    """Every masked code of the batch counts the same."""
    level_rng, mulan_rng, mask_rng, dropout_rng = jax.random.split(rng, 4)
    layout, codes = self.decoder.layout, self._codes(batch)
    rows = len(codes)
    kept = draw_num_levels(
      mulan_rng,
      rows,
      layout.mulan.num_levels,
      self.all_levels_probability,
      self.no_levels_probability,
    )
    if self.wrong_level_probability:
      batch = with_wrong_levels(
        batch, jax.random.fold_in(rng, 4), self.wrong_level_probability
      )
    if 'semantic' in layout.dropped:
      draws = jax.random.uniform(jax.random.fold_in(rng, 3), kept.shape)
      free = draws < self.no_semantic_probability
      batch, kept = without_semantic(batch, free), jnp.where(free, 0, kept)
    level = jax.random.randint(level_rng, (rows,), 0, codes.shape[2])
    if self.first_level_probability:
      draws = jax.random.uniform(jax.random.fold_in(rng, 5), (rows,))
      level = jnp.where(draws < self.first_level_probability, 0, level)
    asked, logits, right = self._asked(
      params,
      self.decoder.conditioning(batch, num_mulan_levels=kept),
      codes,
      level,
      jax.random.split(mask_rng, rows),
      deterministic=False,
      rngs={'dropout': dropout_rng},
    )
    nll = (asked * token_nll(logits, right)).sum() / asked.sum()
    return nll, ({}, {'nll': nll, 'masked': asked.mean()})


def draw_masks(
  key: PRNGKey, level: Int[Array, ''], num_frames: int, num_levels: int
) -> Masked:
  """Draws what of one example is hidden (SoundStorm section 3.2).

  A prefix of uniform length stays, as a prompt does. After it the codes of the
  level are hidden with a probability cos(u * pi / 2), u uniform, one at least;
  those of all levels above it are; those below it are not.

  Args:
    key: Of the example.
    level: In question.
    num_frames: T.
    num_levels: Q.

  Returns:
    Masks without a batch axis.
  """
  prefix_key, share_key, frame_key = jax.random.split(key, 3)
  prefix = jax.random.randint(prefix_key, (), 0, num_frames)
  after = jnp.arange(num_frames) >= prefix
  share = jnp.cos(jax.random.uniform(share_key) * jnp.pi / 2)
  draws = jax.random.uniform(frame_key, (num_frames,))
  least = jnp.where(after, draws, 1.0).min()
  asked = after & ((draws < share) | (draws == least))
  levels = jnp.arange(num_levels)
  above = after[:, None] & (levels > level)
  return Masked(above | (asked[:, None] & (levels == level)), asked)
