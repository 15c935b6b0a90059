"""The token LM: ids [B, N] -> logits of the legal codes [B, T, Q, K].

One class for the three layouts. Input and output tables span the whole
vocabulary (untied, as 430 M parameters imply), but logits are computed only
where something is predicted and only against the K rows of its level: a
sampled token is legal by construction.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Latents, Tokens
from musiclm_jax.nn.attention import Cache
from musiclm_jax.nn.transformer import Transformer
from musiclm_jax.token_lm.layout import Layout


class TokenLM(nn.Module):
  """A causal Transformer over the ids of a layout.

  Attributes:
    layout: What is read and what is predicted.
    transformer: The causal Transformer.
    time_embedding: Whether a learned embedding of the time in the crop,
      shared by segments of different rates, is added to the input. The papers
      have none; without it a small model hardly finds which semantic token
      belongs to an acoustic one (relative positions cannot say it, since the
      distance changes along the crop).
    embedding_scale: Standard deviation of the initial input table.
  """

  layout: Layout
  transformer: Transformer
  time_embedding: bool = False
  embedding_scale: float = 1.0

  def setup(self) -> None:
    shape = (self.layout.vocabulary_size, self.transformer.embed_dim)
    axes = ('vocab', 'embed')
    self.embedding = self.param(
      'embedding',
      nn.with_logical_partitioning(
        nn.initializers.normal(self.embedding_scale), axes
      ),
      shape,
    )
    self.output = self.param(
      'output',
      nn.with_logical_partitioning(
        nn.initializers.normal(shape[1] ** -0.5), axes
      ),
      shape,
    )
    if self.time_embedding:
      self.time = self.param(
        'time',
        nn.with_logical_partitioning(
          nn.initializers.normal(self.embedding_scale), (None, 'embed')
        ),
        (int(self.layout.ticks().max()) + 1, shape[1]),
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
    cache: Cache | None = None,
    reach: int | None = None,
    deterministic: bool = True,
  ) -> tuple[Latents, Cache | None]:
    """Returns what the Transformer makes of tokens start, start+1, ….

    Args:
      tokens: [B, n] ids.
      start: Position of the first one in the sequence.
      cache: Of the tokens before `start`, see `Transformer`.
      reach: See `Transformer`.
      deterministic: Whether dropout is off.
    """
    x = jnp.take(self.embedding, tokens, axis=0)
    if self.time_embedding:
      ticks = jax.lax.dynamic_slice_in_dim(
        jnp.asarray(self.layout.ticks()), start, tokens.shape[1]
      )
      x = x + jnp.take(self.time, ticks, axis=0)
    return self.transformer(
      x, cache=cache, reach=reach, deterministic=deterministic
    )

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
  time_embedding: bool = False,
  embedding_scale: float = 1.0,
  **transformer,
) -> TokenLM:
  """Builds a token LM from the flat arguments of a config.

  Args:
    layout: Of the stage.
    time_embedding: See `TokenLM`.
    embedding_scale: See `TokenLM`.
    **transformer: Arguments of `Transformer`; it is causal.
  """
  return TokenLM(
    layout=layout,
    transformer=Transformer(causal=True, **transformer),
    time_embedding=time_embedding,
    embedding_scale=embedding_scale,
  )
