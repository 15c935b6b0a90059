"""Speculative decoding: a small LM guesses, the LM checks many tokens at once.

Both draw a token from the same noise, so that they draw the same one where they
agree on what is likely. What stays is what the LM itself draws: a guess decides
how many tokens a pass of the LM makes, never which ones, and they are those of
`decode.advance` up to rounding. (Speculative sampling is Leviathan et al.,
2211.17192; the shared noise is Daliri et al., 2408.07978.)
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import PRNGKey, PyTree, Tokens
from musiclm_jax.nn.attention import Cache
from musiclm_jax.token_lm import decode
from musiclm_jax.token_lm.decode import SamplingParams, Sequence
from musiclm_jax.token_lm.model import TokenLM

GUESSES = 4  # tokens that are guessed before the LM checks them


@flax.struct.dataclass
class Guessed:
  """What guessing needs from token to token.

  Attributes:
    cache: Of the draft, of all known ids but the last, or of fewer.
    passes: int32, of the LM over guesses until now.
  """

  cache: Cache
  passes: Int[Array, '']


def begin(
  lm: TokenLM,
  draft: TokenLM,
  params: tuple[PyTree, PyTree],
  known: Tokens,
  length: Int[Array, ''],
) -> Sequence:
  """As `decode.begin`, for an LM and the draft; `params` are those of both."""
  sequence = decode.begin(lm, params[0], known, length)
  cache = decode.begin(draft, params[1], known, length).cache
  return sequence.replace(guessed=Guessed(cache, jnp.int32(0)))


def advance(
  lm: TokenLM,
  draft: TokenLM,
  params: tuple[PyTree, PyTree],
  sequence: Sequence,
  stop: Int[Array, ''],
  keys: PRNGKey,
  sampling: SamplingParams,
  reach: int,
) -> Sequence:
  """Draws the tokens up to a position, several a pass.

  Rows advance together: as many guesses stay as in the row where the fewest do.

  Args:
    lm: The model.
    draft: What guesses: a smaller model of the same layout.
    params: Of both, of `decoding_weights.prepare`.
    sequence: As far as it is, two ids at least.
    stop: See `decode.advance`.
    keys: See `decode.advance`.
    sampling: How both draw.
    reach: See `decode.advance`.

  Returns:
    The sequence with `stop` ids, or as it was where it had as many.
  """
  params = jax.lax.optimization_barrier(params)
  pair = _Pair(lm, draft, *params, keys, sampling)
  guessed = sequence.guessed
  length = sequence.cache.length
  room = stop - GUESSES - 1  # of known ids, before a pass would make too many
  others = jax.lax.while_loop(
    lambda others: (others[0].length < length - 1) & (length < room),
    lambda others: pair.read(sequence.ids, others, others[0].length, 1)[1],
    guessed.cache.split(reach),
  )
  ids, caches, others, passes = jax.lax.while_loop(
    lambda carry: carry[1][0].length + 1 <= room,
    pair.guess_and_check,
    (sequence.ids, sequence.cache.split(reach), others, guessed.passes),
  )
  behind = jnp.minimum(others[0].length, caches[0].length)
  cache = guessed.cache.joined(_of_length(others, behind))
  sequence = Sequence(
    ids, sequence.cache.joined(caches), Guessed(cache, passes)
  )
  # What is left is less than a pass.
  return decode.advance(lm, pair.params, sequence, stop, keys, sampling, reach)


@dataclasses.dataclass(frozen=True)
class _Pair:
  """A model and its draft; see `advance`."""

  lm: TokenLM
  draft: TokenLM
  params: PyTree
  drafts: PyTree
  keys: PRNGKey
  sampling: SamplingParams

  def read(
    self,
    ids: Int[Array, 'R S'],
    caches: tuple[Cache, ...],
    start: Int[Array, ''],
    count: int,
  ) -> tuple[Float[Array, 'R D'], tuple[Cache, ...]]:
    """Lets the draft read ids: what it makes of the last one."""
    tokens = jax.lax.dynamic_slice_in_dim(ids, start, count, axis=1)
    hidden, caches = self.draft.apply(
      {'params': self.drafts},
      tokens,
      start=start,
      cache=_of_length(caches, start),
      method='hidden',
    )
    return hidden[:, -1], caches

  def guess_and_check(self, carry: tuple) -> tuple:
    """A pass: ids, caches of both and the passes before -> the same."""
    ids, caches, others, passes = carry
    first = caches[0].length + 1
    # Of a pass in which all guesses stayed the draft has not read the last one.
    hidden, others = self.read(ids, others, first - 2, 2)
    for position in range(GUESSES):
      new = decode.next_ids(
        *(self.draft, self.drafts, hidden, first + position),
        *(self.keys, self.sampling),
      )
      ids = jax.lax.dynamic_update_slice_in_dim(
        ids, new.astype(ids.dtype)[:, None], first + position, axis=1
      )
      if position + 1 < GUESSES:
        hidden, others = self.read(ids, others, first + position, 1)
    tokens = jax.lax.dynamic_slice_in_dim(ids, first - 1, GUESSES + 1, axis=1)
    hidden, caches = self.lm.apply(
      {'params': self.params},
      tokens,
      start=first - 1,
      cache=caches,
      method='hidden',
    )
    drawn = [
      decode.next_ids(
        *(self.lm, self.params, hidden[:, place], first + place),
        *(self.keys, self.sampling),
      )
      for place in range(GUESSES + 1)
    ]
    drawn = jnp.stack(drawn, axis=1).astype(ids.dtype)
    same = (drawn[:, :-1] == tokens[:, 1:]).astype(jnp.int32)
    right = jnp.cumprod(same, axis=1).sum(axis=1)
    known = first + right.min() + 1
    # Those behind are overwritten before anything reads them.
    ids = jax.lax.dynamic_update_slice_in_dim(ids, drawn, first, axis=1)
    return ids, _of_length(caches, known - 1), others, passes + 1


def _of_length(
  caches: tuple[Cache, ...], length: Int[Array, '']
) -> tuple[Cache, ...]:
  """Caches of which what is behind a length counts for nothing."""
  return tuple(cache.replace(length=length) for cache in caches)
