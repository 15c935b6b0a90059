"""w2v-BERT's masking and its three losses (2108.06209 §3).

Frames [B, T, ...] and a mask [B, T] -> one value a frame, to be averaged where
the mask is true.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import Mask, PRNGKey
from musiclm_jax.contracts.errors import UsageError


def span_mask(
  rng: PRNGKey, batch: int, length: int, *, probability: float, span: int
) -> Mask:
  """Draws which frames are hidden: spans that may overlap.

  Every frame begins a span with `probability`; an utterance in which none
  does gets one whole span, so that it has something to learn from.

  Args:
    rng: Of the draws.
    batch: B.
    length: T, at least `span`.
    probability: Of a span beginning at a frame, 0.065 in the paper.
    span: Frames in a span, 10 in the paper.

  Raises:
    UsageError: If the utterance is shorter than a span.
  """
  if length < span:
    raise UsageError(
      f'expected at least {span} frames to mask a span of {span}, got '
      f'{length}: choose a longer crop or a shorter span'
    )
  start_rng, only_rng = jax.random.split(rng)
  starts = jax.random.bernoulli(start_rng, probability, (batch, length))
  only = jax.random.randint(only_rng, (batch, 1), 0, length - span + 1)
  none = ~starts.any(axis=1, keepdims=True)
  starts = starts | (none & (jnp.arange(length) == only))
  begun = jnp.cumsum(starts, axis=1)
  ended = jnp.pad(begun, ((0, 0), (span, 0)))[:, :length]
  return begun > ended


def draw_distractors(
  rng: PRNGKey, mask: Mask, num_distractors: int
) -> Int[Array, 'B T N']:
  """Draws other masked frames of the same utterance, for every masked frame.

  Draws are uniform, with replacement, and never the frame itself.

  Args:
    rng: Of the draws.
    mask: Masked frames.
    num_distractors: N.

  Returns:
    Frame indices; without meaning in rows where `mask` is false or holds
    fewer than two frames.
  """
  masked_first = jnp.argsort(~mask, axis=1, stable=True)
  rank = jnp.cumsum(mask, axis=1) - 1
  others = jnp.maximum(mask.sum(axis=1) - 1, 1)
  shape = (*mask.shape, num_distractors)
  drawn = jax.random.randint(rng, shape, 0, others[:, None, None])
  drawn = drawn + (drawn >= rank[..., None])
  drawn = jnp.minimum(drawn, mask.shape[1] - 1)
  flat = jnp.take_along_axis(masked_first, drawn.reshape(len(mask), -1), axis=1)
  return flat.reshape(shape)


def contrastive_loss(
  context: Float[Array, 'B T D'],
  targets: Float[Array, 'B T D'],
  codes: Int[Array, 'B T'],
  distractors: Int[Array, 'B T N'],
  temperature: float,
) -> tuple[Float[Array, 'B T'], Float[Array, 'B T']]:
  """Computes InfoNCE: each context must find its own frame's code vector.

  -log(exp(cos(c_t, q_t) / κ) / Σ_u exp(cos(c_t, q_u) / κ)), u the frame itself
  and its distractors (wav2vec 2.0 eq. 3). As in the authors' code, a drawn
  frame that has the target's own code is no distractor: held notes would ask
  to tell a vector from itself.

  Args:
    context: Outputs of the contrastive module.
    targets: Code vectors of the unmasked input.
    codes: Which entries these are.
    distractors: Of `draw_distractors`.
    temperature: κ, 0.1 in the paper.

  Returns:
    Loss of each frame, and 1.0 where no distractor is as close as the target.
  """
  length = targets.shape[1]
  similarity = jnp.einsum('btd,bud->btu', _unit(context), _unit(targets))
  # Counting how often a frame was drawn gives the same sum as gathering the
  # draws, and needs no scatter in the backward pass.
  batch, frames = jnp.indices(distractors.shape, sparse=True)[:2]
  times = jnp.zeros((*distractors.shape[:2], length), jnp.float32)
  times = times.at[batch, frames, distractors].add(1.0)
  times = jnp.where(codes[:, :, None] == codes[:, None], 0.0, times)
  own = jnp.eye(length, dtype=bool)
  target = jnp.einsum('btt->bt', similarity)
  loss = (
    jax.nn.logsumexp(
      similarity / temperature, axis=-1, b=jnp.where(own, 1.0, times)
    )
    - target / temperature
  )
  negatives = jnp.where(times > 0, similarity, -jnp.inf)
  return loss, (target > negatives.max(axis=-1)).astype(jnp.float32)


def diversity_loss(
  probabilities: Float[Array, 'B T K'],
) -> Float[Array, '']:
  """Computes (K - exp(H(p̄))) / K: 0 at even use of codes, 1 - 1/K at collapse.

  p̄ is the mean over all frames of the global batch (wav2vec 2.0 eq. 4 in the
  perplexity form).
  """
  size = probabilities.shape[-1]
  mean = probabilities.reshape(-1, size).mean(axis=0)
  return (size - jnp.exp(jax.scipy.special.entr(mean).sum())) / size


def masked_prediction_loss(
  logits: Float[Array, 'B T K'], codes: Int[Array, 'B T']
) -> tuple[Float[Array, 'B T'], Float[Array, 'B T']]:
  """Computes the cross-entropy of each frame's code, and whether it is hit."""
  logits = logits.astype(jnp.float32)
  log_probabilities = jax.nn.log_softmax(logits, axis=-1)
  chosen = jnp.take_along_axis(log_probabilities, codes[..., None], axis=-1)
  hits = jnp.argmax(logits, axis=-1) == codes
  return -chosen[..., 0], hits.astype(jnp.float32)


def masked_mean(
  values: Float[Array, 'B T'], mask: Mask, axis: int | None = None
) -> Array:
  """Averages over masked frames of the batch, or of each example (axis 1)."""
  total = jnp.sum(jnp.where(mask, values, 0.0), axis=axis)
  return total / jnp.maximum(mask.sum(axis=axis), 1)


def _unit(x: Array) -> Array:
  x = x.astype(jnp.float32)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
