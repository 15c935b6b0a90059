"""The parallel LM applied: conditioning and some codes -> all codes.

Level by level, the coarse ones first (SoundStorm section 3.3): a level takes
some rounds, in each of which all its missing codes are drawn at once and those
stay that the LM is surest of; the others are drawn again with these known. The
last round of a level, the only one of most, takes the likeliest codes. All is
one loop with one pass of the LM a round, whatever is known already.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Codes, PRNGKey, PyTree
from musiclm_jax.contracts.task import Batch, Params
from musiclm_jax.parallel_lm.model import ParallelLM
from musiclm_jax.token_lm.decode import SamplingParams, draw
from musiclm_jax.token_lm.language_model import (
  UNKNOWN,
  can_guide,
  conditioning_codes,
  pushed_away_from,
)
from musiclm_jax.token_lm.layout import Layout


@dataclasses.dataclass(frozen=True)
class ParallelDecoder:
  """Likelihoods and draws of a parallel LM, as pure functions of its weights.

  Attributes:
    model: The network, its layout included.
    iterations: Rounds of the first levels; those after them have one each.
    confidence_noise: Of the Gumbel noise by which sureness is blurred in the
      first round; it fades until the last one, and temperature scales it.
  """

  model: ParallelLM
  iterations: tuple[int, ...] = (16,)
  confidence_noise: float = 1.0

  @property
  def layout(self) -> Layout:
    """What is read and what is predicted."""
    return self.model.layout

  @property
  def rounds(self) -> tuple[int, ...]:
    """Rounds of each level."""
    levels = self.layout.predicted.num_levels
    return (*self.iterations, *[1] * levels)[:levels]

  def can_guide(
    self, num_mulan_levels: int | None, negative: Codes | None
  ) -> bool:
    """Whether guidance has something to push away from."""
    return can_guide(self.layout, num_mulan_levels, negative)

  def abstract_params(self) -> PyTree:
    """Shapes of `params`, boxed with their logical axes; nothing is made."""
    codes = [
      jax.ShapeDtypeStruct((1, s.num_frames, s.num_levels), jnp.int32)
      for s in self.layout.segments
    ]
    made = jax.eval_shape(
      self.model.init, jax.random.key(0), codes[:-1], codes[-1], 0
    )
    return {'lm': made['params']}

  def conditioning(
    self,
    batch: Batch,
    *,
    num_mulan_levels: int | Array | None = None,
    guided: bool = False,
    negative: Codes | None = None,
  ) -> list[Codes]:
    """Cuts out what is read beside acoustic codes; see `LanguageModel.known`.

    Returns:
      Codes of each segment, with guidance a row and the one that it is pushed
      away from beside each other.
    """
    own = conditioning_codes(self.layout, batch, num_mulan_levels)
    if not guided:
      return own
    other = conditioning_codes(
      self.layout,
      *pushed_away_from(self.layout, batch, num_mulan_levels, negative),
    )
    return [
      jnp.stack(pair, axis=1).reshape(-1, *pair[0].shape[1:])
      for pair in zip(own, other, strict=True)
    ]

  def logits(
    self,
    params: Params,
    conditioning: list[Codes],
    codes: Codes,
    level: Array | int,
    **options,
  ) -> Float[Array, 'B T K']:
    """Logits of one level; see `ParallelLM`."""
    variables = {'params': params['lm']}
    return self.model.apply(variables, conditioning, codes, level, **options)

  def decode(
    self,
    params: Params,
    conditioning: list[Codes],
    known: Codes,
    keys: PRNGKey,
    sampling: SamplingParams,
  ) -> Codes:
    """Draws all that is not known.

    Args:
      params: Player -> parameters, the Transformer's stacked or unstacked.
      conditioning: Of `conditioning`, [B, ...] or with guidance [2B, ...].
      known: [B, T, Q], `UNKNOWN` in all levels of a frame that is to be drawn;
        others stay as they are.
      keys: One a row [B]; a row depends on its own alone.
      sampling: How to draw, but for the last round of each level.

    Returns:
      Codes [B, T, Q].
    """
    rounds = self.rounds
    levels = np.repeat(np.arange(len(rounds)), rounds)
    places = np.concatenate([np.arange(count) for count in rounds])
    done = (places + 1) / np.repeat(rounds, rounds)
    # The share of a level's codes that is masked after each round.
    masked = np.where(done < 1, np.cos(done * np.pi / 2), 0.0)
    plan = [jnp.asarray(a, jnp.float32) for a in (masked, 1 - done)]
    level_at, copies = jnp.asarray(levels), len(conditioning[0]) // len(known)
    missing = (known[:, :, 0] < 0).sum(axis=1)

    def one_round(number: Array, codes: Codes) -> Codes:
      level, (share, noise) = level_at[number], (part[number] for part in plan)
      logits = self.logits(
        params, conditioning, jnp.repeat(codes, copies, axis=0), level
      )
      if copies == 2:
        own, other = logits[::2], logits[1::2]
        logits = other + sampling.guidance * (own - other)
      noise *= self.confidence_noise * sampling.temperature
      before = jnp.take(codes, level, axis=2)
      fold = jax.vmap(jax.random.fold_in, (0, None))
      drawn, sureness = _draw(fold(keys, number), logits, noise, sampling)
      last = share == 0.0  # round of its level
      drawn = jnp.where(last, logits.argmax(axis=2), drawn)
      sureness = jnp.where(before < 0, sureness, jnp.inf)
      left = jnp.floor(share * missing).astype(int)[:, None]
      rank = sureness.argsort(axis=1).argsort(axis=1)  # the least sure first
      after = jnp.where(before < 0, drawn, before)
      after = jnp.where(rank < left, UNKNOWN, after)
      return jax.lax.dynamic_update_index_in_dim(codes, after, level, axis=2)

    # Of what does not change no round makes copies.
    params = jax.lax.optimization_barrier(params)
    return jax.lax.fori_loop(0, len(levels), one_round, known)


def _draw(
  keys: PRNGKey,
  logits: Float[Array, 'B T K'],
  noise: Array,
  sampling: SamplingParams,
) -> tuple[Int[Array, 'B T'], Float[Array, 'B T']]:
  """Draws a code a frame, each with a key of its own.

  Returns:
    The codes, and their log-probabilities with noise.
  """
  rows, frames, size = logits.shape
  fold = functools.partial(jax.vmap(jax.random.fold_in, (0, None)), keys)
  each = jax.vmap(fold, out_axes=1)(jnp.arange(frames))
  drawn = draw(each.reshape(-1), logits.reshape(-1, size), sampling)
  drawn = drawn.reshape(rows, frames).astype(jnp.int32)
  sureness = jnp.take_along_axis(
    jax.nn.log_softmax(logits), drawn[..., None], axis=-1
  )[..., 0]
  blur = jax.vmap(lambda key: jax.random.gumbel(key, (frames,)))(fold(frames))
  return drawn, sureness + noise * blur
