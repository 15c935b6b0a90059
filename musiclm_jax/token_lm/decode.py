"""Sampling with a key-value cache: known ids [B, N] -> codes [B, num_tokens].

The known tokens are read at once, then a scan draws one token after another.
Attention reads only the part of the cache that a phase of the scan can have
filled: with 4 phases 5/8 of the work of reading all of it.
"""

import itertools

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import PRNGKey, PyTree, Tokens
from musiclm_jax.token_lm.model import TokenLM

NUM_PHASES = 4
MIN_PHASE_TOKENS = 32  # each phase is compiled by itself


@flax.struct.dataclass
class SamplingParams:
  """How a code is drawn from logits; see `LanguageModel.generate`.

  Attributes:
    temperature: 0 takes the likeliest code.
    top_k: None allows all codes.
    top_p: None allows all codes.
    guidance: 1.0 is off.
  """

  temperature: float | Array
  top_k: int | None = flax.struct.field(pytree_node=False)
  top_p: float | None = flax.struct.field(pytree_node=False)
  guidance: float = flax.struct.field(pytree_node=False)


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
    least = jax.lax.top_k(logits, min(sampling.top_k, logits.shape[-1]))[0][
      :, -1:
    ]
    limited = jnp.where(logits < least, -jnp.inf, limited)
  if sampling.top_p is not None:
    cold = jnp.maximum(sampling.temperature, 1e-6)
    order = jnp.sort(limited, axis=-1)[:, ::-1]
    shares = jax.nn.softmax(order / cold, axis=-1)
    before = jnp.cumsum(shares, axis=-1) - shares
    # The first code stays even where top_p is 0.
    kept = jnp.maximum((before < sampling.top_p).sum(axis=-1, keepdims=True), 1)
    least = jnp.take_along_axis(order, kept - 1, axis=-1)
    limited = jnp.where(logits < least, -jnp.inf, limited)
  # argmax(logits + T * Gumbel) is a draw at temperature T, and greedy at 0.
  noise = jax.vmap(
    lambda key: jax.random.gumbel(key, logits.shape[1:], jnp.float32)
  )(keys)
  return (limited + sampling.temperature * noise).argmax(axis=-1)


def sample(
  lm: TokenLM,
  params: PyTree,
  known: Tokens,
  *,
  num_tokens: int,
  keys: PRNGKey,
  sampling: SamplingParams,
) -> Int[Array, 'B N']:
  """Continues sequences of ids by `num_tokens` codes.

  Args:
    lm: The model.
    params: Its parameters.
    known: Ids [B, N]; with guidance [2B, N], the unconditional rows last.
    num_tokens: To draw; they must fit the layout.
    keys: One a row [B]; the token at position i uses `fold_in(key, i)`, so
      that windows of different length draw alike.
    sampling: How to draw.

  Returns:
    [B, num_tokens] codes in [0, K), without offsets.
  """
  layout = lm.layout
  predicted = layout.predicted
  variables = {'params': params}
  copies = known.shape[0] // keys.shape[0]
  first = known.shape[1]
  capacity = first + num_tokens - 1

  def step(carry, position, reach):
    cache, last = carry
    hidden, cache = lm.apply(
      variables,
      last[:, None],
      start=position - 1,
      cache=cache,
      reach=reach,
      method='hidden',
    )
    level = (position - layout.num_conditioning) % predicted.num_levels
    logits = lm.apply(variables, hidden[:, 0], level, method='level_logits')
    if copies == 2:
      conditional, unconditional = jnp.split(logits, 2)
      logits = unconditional + sampling.guidance * (conditional - unconditional)
    rows = jax.vmap(jax.random.fold_in, (0, None))(keys, position)
    code = draw(rows, logits, sampling)
    offset = layout.predicted_offset + level * predicted.codebook_size
    return (cache, jnp.tile(code + offset, copies)), code

  cache = lm.transformer.empty_cache(known.shape[0], capacity)
  _, cache = lm.apply(
    variables, known[:, :-1], cache=cache, reach=first - 1, method='hidden'
  )
  carry, codes = (cache, known[:, -1]), []
  for start, stop in _phases(first, first + num_tokens):
    carry, drawn = jax.lax.scan(
      lambda carry, position, reach=stop - 1: step(carry, position, reach),
      carry,
      jnp.arange(start, stop),
    )
    codes.append(drawn)
  return jnp.concatenate(codes).T


def _phases(start: int, stop: int) -> list[tuple[int, int]]:
  """Splits [start, stop) into at most NUM_PHASES ranges of like length."""
  count = max(min(NUM_PHASES, (stop - start) // MIN_PHASE_TOKENS), 1)
  bounds = [start + (stop - start) * i // count for i in range(count + 1)]
  return list(itertools.pairwise(bounds))
