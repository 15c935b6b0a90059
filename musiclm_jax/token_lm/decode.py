"""Sampling with a key-value cache, as pure functions of a `Sequence`.

known ids [B, N] -> begin -> Sequence -> advance -> Sequence -> …

`begin` reads all that is known at once; `advance` draws one token after
another, up to any position, so that a sequence may stop anywhere and go on with
the same result. Positions are traced and shapes are those of a whole crop: what
is compiled for one length serves every length.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import PRNGKey, PyTree, Tokens
from musiclm_jax.nn.attention import Cache
from musiclm_jax.token_lm.model import TokenLM


@flax.struct.dataclass
class SamplingParams:
  """How a code is drawn from logits. All may be traced.

  Attributes:
    temperature: Divides the logits; 0 takes the likeliest code.
    top_k: Draw among the k likeliest codes only; None among all.
    top_p: Draw among the likeliest codes of this total probability only.
    guidance: Scale of classifier-free guidance; it is read where a sequence
      has rows to be pushed away from.
  """

  temperature: float | Array = 1.0
  top_k: int | Array | None = None
  top_p: float | Array | None = None
  guidance: float | Array = 1.0


@flax.struct.dataclass
class Sequence:
  """Sequences that are being drawn, R = B or with guidance 2B rows.

  With guidance a row and the one it is pushed away from are neighbours.

  Attributes:
    ids: [R, S], S that of the layout; what is not known yet means nothing.
    cache: Of all known ids but the last.
    guessed: Where `speculation` draws, the state of what guesses.
  """

  ids: Int[Array, 'R S']
  cache: Cache
  guessed: PyTree = None


def draw(
  keys: PRNGKey, logits: Float[Array, 'B K'], sampling: SamplingParams
) -> Int[Array, 'B']:
  """Draws one code a row.

  Args:
    keys: One a row [B].
    logits: Of the legal codes, float32.
    sampling: Temperature and limits.
  """
  limited = logits
  if sampling.top_k is not None:
    ones = jnp.ones_like(limited)
    limited = _likeliest(limited, ones, sampling.top_k)
  if sampling.top_p is not None:
    cold = jnp.maximum(sampling.temperature, 1e-6)
    shares = jax.nn.softmax(limited / cold, axis=-1)
    limited = _likeliest(limited, shares, sampling.top_p)
  # argmax(logits + T * Gumbel) is a draw at temperature T, and greedy at 0.
  noise = jax.vmap(
    lambda key: jax.random.gumbel(key, logits.shape[1:], jnp.float32)
  )(keys)
  return (limited + sampling.temperature * noise).argmax(axis=-1)


def _likeliest(
  logits: Float[Array, 'B K'],
  weights: Float[Array, 'B K'],
  total: float | int | Array,
) -> Float[Array, 'B K']:
  """Keeps codes until what they weigh together reaches a total, one at least.

  The bits of the least logit that stays are found one after another: sorting
  takes a CPU ten times as long.

  Args:
    logits: Of the codes.
    weights: Of each, not negative.
    total: To be reached.

  Returns:
    The logits, -inf where a code does not stay. Equal ones stay together.
  """
  bits = jax.lax.bitcast_convert_type(logits, jnp.int32)
  # Whole numbers that are in the order of the floats.
  order = jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
  least = jnp.full((len(logits), 1), jnp.iinfo(jnp.int32).min)

  def four_bits(turn: Array, least: Array) -> Array:
    for bit in range(4):
      higher = least ^ jnp.left_shift(1, 31 - 4 * turn - bit)
      above = jnp.where(order >= higher, weights, 0).sum(axis=-1, keepdims=True)
      least = jnp.where(above >= total, higher, least)
    return least

  least = jax.lax.fori_loop(0, 8, four_bits, least)
  least = jnp.minimum(least, order.max(axis=-1, keepdims=True))
  return jnp.where(order < least, -jnp.inf, logits)


def begin(
  lm: TokenLM, params: PyTree, known: Tokens, length: Int[Array, '']
) -> Sequence:
  """Reads what sequences begin with.

  Args:
    lm: The model.
    params: Its parameters, of `decoding_weights.prepare`.
    known: Ids [R, N], of which what follows `length` means nothing.
    length: Known ids of a row, at least 1.
  """
  rows, count = known.shape
  _, caches = lm.apply(
    {'params': params},
    known,
    cache=lm.transformer.empty_cache(rows, count).split(count),
    method='hidden',
  )
  empty = lm.transformer.empty_cache(rows, lm.layout.num_tokens)
  cache = empty.joined(caches).replace(length=length - 1)
  ids = jnp.pad(known, ((0, 0), (0, lm.layout.num_tokens - count)))
  return Sequence(ids, cache)


def next_ids(
  lm: TokenLM,
  params: PyTree,
  hidden: Float[Array, 'R D'],
  position: Int[Array, ''],
  keys: PRNGKey,
  sampling: SamplingParams,
) -> Int[Array, 'R']:
  """Draws the ids at a position.

  Args:
    lm: The model.
    params: Its parameters.
    hidden: What it makes of all before the position.
    position: In the sequence, of a predicted token.
    keys: One a row [B]; the draw uses `fold_in(key, position)`.
    sampling: How to draw.

  Returns:
    Ids, equal for a row and the one it is pushed away from.
  """
  layout, predicted = lm.layout, lm.layout.predicted
  copies = len(hidden) // len(keys)
  level = (position - layout.num_conditioning) % predicted.num_levels
  logits = lm.apply({'params': params}, hidden, level, method='level_logits')
  if copies == 2:
    own, other = logits[::2], logits[1::2]
    logits = other + sampling.guidance * (own - other)
  rows = jax.vmap(jax.random.fold_in, (0, None))(keys, position)
  code = draw(rows, logits, sampling)
  offset = layout.predicted_offset + level * predicted.codebook_size
  return jnp.repeat(code + offset, copies)


def advance(
  lm: TokenLM,
  params: PyTree,
  sequence: Sequence,
  stop: Int[Array, ''],
  keys: PRNGKey,
  sampling: SamplingParams,
  reach: int,
) -> Sequence:
  """Draws the tokens up to a position.

  Args:
    lm: The model.
    params: Its parameters, of `decoding_weights.prepare`.
    sequence: As far as it is.
    stop: Ids that shall be known, at most `reach` + 1.
    keys: One a row [B]; the token at position i uses `fold_in(key, i)`, so
      that windows of different length draw alike.
    sampling: How to draw.
    reach: Static bound on what of the cache is read.

  Returns:
    The sequence with `stop` ids, or as it was where it had as many.
  """
  # Of what does not change no token makes copies: XLA would, to save memory.
  params = jax.lax.optimization_barrier(params)

  def step(carry):
    ids, caches = carry
    position = caches[0].length + 1
    last = jax.lax.dynamic_slice_in_dim(ids, position - 1, 1, axis=1)
    hidden, caches = lm.apply(
      {'params': params},
      last,
      start=position - 1,
      cache=caches,
      method='hidden',
    )
    new = next_ids(lm, params, hidden[:, 0], position, keys, sampling)
    ids = jax.lax.dynamic_update_slice_in_dim(
      ids, new.astype(ids.dtype)[:, None], position, axis=1
    )
    return ids, caches

  ids, caches = jax.lax.while_loop(
    lambda carry: carry[1][0].length + 1 < stop,
    step,
    (sequence.ids, sequence.cache.split(reach)),
  )
  return sequence.replace(ids=ids, cache=sequence.cache.joined(caches))
