"""Losses of the token LM and the dropping of conditioning levels."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Codes, PRNGKey


def token_nll(
  logits: Float[Array, 'B T Q K'], codes: Codes
) -> Float[Array, 'B T Q']:
  """Returns -log p of each code in nats, in float32."""
  logits = logits.astype(jnp.float32)
  chosen = jnp.take_along_axis(logits, codes[..., None], axis=-1)[..., 0]
  return jax.nn.logsumexp(logits, axis=-1) - chosen


def level_names(first_level: int, num_levels: int) -> list[str]:
  """Names the levels as papers count them: `level_1` is the first."""
  return [f'level_{first_level + q + 1}' for q in range(num_levels)]


def by_level(
  name: str, values: Float[Array, 'B T Q'], first_level: int
) -> Mapping[str, Array]:
  """Averages per example, over all tokens and over each level's tokens.

  Args:
    name: Of what is averaged.
    values: One number a token.
    first_level: Of the stream's levels, the one at Q's index 0.

  Returns:
    `name` and, for several levels, `name_level_<n>`, each [B].
  """
  metrics = {name: values.mean(axis=(1, 2))}
  num_levels = values.shape[2]
  if num_levels > 1:
    for q, level in enumerate(level_names(first_level, num_levels)):
      metrics[f'{name}_{level}'] = values[:, :, q].mean(axis=1)
  return metrics


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
