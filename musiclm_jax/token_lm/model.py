"""The token LM: ids [B, N] -> logits of the legal codes [B, T, Q, K].

One class for the three layouts. Input and output tables span the whole
vocabulary (untied, as 430 M parameters imply), but logits are computed only
where something is predicted and only against the K rows of its level: a
sampled token is legal by construction.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Latents, Tokens
from musiclm_jax.nn.attention import Cache
from musiclm_jax.nn.einsum import parameter
from musiclm_jax.nn.relative_bias import RelativeBias, RowBias, toeplitz
from musiclm_jax.nn.transformer import Transformer
from musiclm_jax.token_lm.layout import TICK_RATE, Layout


class TokenLM(nn.Module):
  """A causal Transformer over the ids of a layout.

  Attributes:
    layout: What is read and what is predicted.
    transformer: The causal Transformer.
    time_buckets: Buckets of a second relative bias, from predicted to
      conditioning tokens by their difference in time instead of in tokens: 0
      leaves it out, as the papers do. Between segments of two rates the
      distance in tokens changes along the crop, so that the T5 bias cannot
      say which semantic token belongs to an acoustic one, and a small model
      does not find it out.
    time_peak: Initial value of that bias in every second head at equal time,
      all through the shortest frame of what conditions:
      these heads begin by reading the tokens of the time they predict.
    embedding_scale: Standard deviation of the initial input table.
  """

  layout: Layout
  transformer: Transformer
  time_buckets: int = 0
  time_peak: float = 0.0
  embedding_scale: float = 1.0

  def setup(self) -> None:
    width = self.transformer.embed_dim
    shape = (self.layout.vocabulary_size, width)
    self.embedding, self.output = (
      parameter(
        self, name, nn.initializers.normal(scale), shape, ('vocab', 'embed')
      )
      for name, scale in (
        ('embedding', self.embedding_scale),
        ('output', width**-0.5),
      )
    )
    if self.time_buckets:
      self.time_bias = RelativeBias(
        self.transformer.num_heads,
        self.time_buckets,
        max(self._num_ticks, self.time_buckets),
        bidirectional=True,
        gain=self.transformer.relative_gain,
        peak=self.time_peak,
        peak_reach=self._reach,
      )

  def __call__(
    self, tokens: Tokens, *, deterministic: bool = True
  ) -> Float[Array, 'B T Q K']:
    """Returns the logits of every predicted token, given all before it.

    Args:
      tokens: The whole sequence [B, N]; its last token is not read.
      deterministic: Whether dropout is off.
    """
    hidden, _ = self.hidden(tokens[:, :-1], deterministic=deterministic)
    predicted = self.layout.predicted
    hidden = hidden[:, self.layout.num_conditioning - 1 :].reshape(
      hidden.shape[0], predicted.num_frames, predicted.num_levels, -1
    )
    table = self.output[self.layout.predicted_offset :]
    table = table[: predicted.vocabulary_size].reshape(
      predicted.num_levels, predicted.codebook_size, -1
    )
    return jnp.einsum(
      'btqd,qkd->btqk',
      hidden,
      table.astype(hidden.dtype),
      preferred_element_type=jnp.float32,
    )

  def hidden(
    self,
    tokens: Tokens,
    *,
    start: Array | int = 0,
    cache: Cache | tuple[Cache, ...] | None = None,
    deterministic: bool = True,
  ) -> tuple[Latents, Cache | tuple[Cache, ...] | None]:
    """Returns what the Transformer makes of tokens start, start+1, ….

    Args:
      tokens: [B, n] ids.
      start: Position of the first one in the sequence.
      cache: Of the tokens before `start`, see `Transformer`.
      deterministic: Whether dropout is off.
    """
    x = jnp.take(self.embedding, tokens, axis=0)
    return self.transformer(
      x,
      row_bias=self._row_bias(start, tokens.shape[1]),
      cache=cache,
      deterministic=deterministic,
    )

  @property
  def _reach(self) -> int:
    """Ticks that the shortest frame of what conditions it lasts."""
    rates = [s.frame_rate for s in self.layout.segments[:-1]]
    return max(round(TICK_RATE / max(rates)), 1) if any(rates) else 1

  @property
  def _num_ticks(self) -> int:
    """Ticks in a crop."""
    return int(self.layout.query_ticks().max()) + 1

  def _row_bias(self, start: Array | int, count: int) -> RowBias | None:
    """The bias by time for `count` tokens: a row per tick, the last one 0."""
    keys = self.layout.key_ticks()
    if not self.time_buckets or (keys < 0).all():
      return None
    ticks = self._num_ticks
    by_tick = toeplitz(self.time_bias(ticks), ticks)  # [H, query, key]
    table = jnp.where(keys >= 0, by_tick[:, :, np.maximum(keys, 0)], 0.0)
    table = jnp.pad(table, ((0, 0), (0, 1), (0, 0)))
    queries = self.layout.query_ticks()
    rows = jnp.asarray(np.where(queries < 0, ticks, queries))
    return RowBias(table, jax.lax.dynamic_slice_in_dim(rows, start, count))

  def level_logits(
    self, hidden: Float[Array, 'B D'], level: Array | int
  ) -> Float[Array, 'B K']:
    """Returns the logits of one level of the predicted segment.

    Args:
      hidden: Of the position before the token.
      level: In [0, Q), may be traced.
    """
    size = self.layout.predicted.codebook_size
    table = jax.lax.dynamic_slice_in_dim(
      self.output, self.layout.predicted_offset + level * size, size
    )
    return jnp.einsum(
      'bd,kd->bk',
      hidden,
      table.astype(hidden.dtype),
      preferred_element_type=jnp.float32,
    )


def make_lm(
  layout: Layout,
  *,
  relative_buckets: int = 0,
  relative_max_distance: int | None = None,
  time_buckets: int = 0,
  time_peak: float = 0.0,
  embedding_scale: float = 1.0,
  **transformer,
) -> TokenLM:
  """Builds a token LM from the flat arguments of a config.

  Args:
    layout: Of the stage.
    relative_buckets: See `Transformer`.
    relative_max_distance: See `Transformer`. None is the layout's length: the
      buckets tell where any token of another segment is.
    time_buckets: See `TokenLM`.
    time_peak: See `TokenLM`.
    embedding_scale: See `TokenLM`.
    **transformer: Arguments of `Transformer`; it is causal.
  """
  if relative_max_distance is None:
    # In a short layout every distance has a bucket of its own.
    relative_max_distance = max(layout.num_tokens, relative_buckets // 2 + 1)
  return TokenLM(
    layout=layout,
    transformer=Transformer(
      causal=True,
      relative_buckets=relative_buckets,
      relative_max_distance=relative_max_distance,
      **transformer,
    ),
    time_buckets=time_buckets,
    time_peak=time_peak,
    embedding_scale=embedding_scale,
  )
