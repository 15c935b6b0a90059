"""Gumbel-softmax quantizer: latents [B, T, F] -> code vectors [B, T, D].

One codebook of K entries; the choice is a straight-through sample (wav2vec
2.0 §2), so gradients reach codebook and logits without EMA or k-means.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import PRNGKey
from musiclm_jax.nn.einsum import Einsum


@struct.dataclass
class GumbelCodes:
  """What the quantizer chose.

  Attributes:
    values: The chosen entries, with straight-through gradients.
    codes: The most probable entries, without the sampling noise: a target
      that does not change from step to step for no reason.
    probabilities: Of the entries, without noise and temperature.
  """

  values: Float[Array, 'B T D']
  codes: Int[Array, 'B T']
  probabilities: Float[Array, 'B T K']


def straight_through_one_hot(
  logits: Float[Array, '... K'],
  temperature: Array | float,
  rng: PRNGKey | None,
) -> Float[Array, '... K']:
  """Chooses one entry; its gradient is that of a tempered softmax.

  Args:
    logits: Unnormalised log-probabilities.
    temperature: Of the softmax that lends its gradient.
    rng: Of the Gumbel noise; without it the most probable entry is chosen.

  Returns:
    Exactly one-hot rows.
  """
  if rng is not None:
    logits = logits + jax.random.gumbel(rng, logits.shape)
  soft = jax.nn.softmax(logits / temperature, axis=-1)
  hard = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
  return hard + (soft - jax.lax.stop_gradient(soft))


class GumbelQuantizer(nn.Module):
  """Chooses a code vector for each frame.

  Attributes:
    codebook_size: K.
    code_dim: D.
    logit_scale: Standard deviation of the initial logits of unit-variance
      latents; large enough for first choices to follow the latents more than
      the noise.
    inertia: Standard deviation of the initial kernel, whose input is scaled
      down by as much; 1 in wav2vec 2.0. Adam's steps have one size whatever
      the kernel's, so a large kernel turns slowly, and the targets of the
      other losses hold still for long enough to be learned.
    encoder_gradient: Share of the gradient that goes on to the latents.
  """

  codebook_size: int
  code_dim: int
  logit_scale: float = 5.0
  inertia: float = 1.0
  encoder_gradient: float = 1.0

  @nn.compact
  def __call__(
    self,
    latents: Float[Array, 'B T F'],
    temperature: Array | float = 1.0,
    rng: PRNGKey | None = None,
  ) -> GumbelCodes:
    """Quantizes in float32; see `straight_through_one_hot`."""
    width = latents.shape[-1]
    latents = latents.astype(jnp.float32)
    latents = self.encoder_gradient * latents + (
      1.0 - self.encoder_gradient
    ) * jax.lax.stop_gradient(latents)
    logits = Einsum(
      'btf,fk->btk',
      (width, self.codebook_size),
      ('embed', 'vocab'),
      use_bias=True,
      kernel_init=nn.initializers.normal(self.inertia),
      precision=jax.lax.Precision.HIGHEST,
      name='logits',
    )(self.logit_scale / (self.inertia * width**0.5) * latents)
    choice = straight_through_one_hot(logits, temperature, rng)
    values = Einsum(
      'btk,kd->btd',
      (self.codebook_size, self.code_dim),
      ('vocab', 'embed'),
      kernel_init=nn.initializers.normal(1.0),
      precision=jax.lax.Precision.HIGHEST,
      name='codebook',
    )(choice)
    return GumbelCodes(
      values,
      jnp.argmax(logits, axis=-1).astype(jnp.int32),
      jax.nn.softmax(logits, axis=-1),
    )
