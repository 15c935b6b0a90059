"""The one projection layer: an einsum whose kernel names its axes."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array


class Einsum(nn.Module):
  """Projects its input with a kernel, `jnp.einsum(equation, x, kernel)`.

  Attributes:
    equation: Documents the activations, e.g. `'btd,dhk->bthk'`.
    shape: Of the kernel.
    axes: Logical axis name of each kernel dimension (`embed`, `mlp`, `heads`,
      `head_dim`, `vocab`, `layers`) or None; sharding rules map them.
    num_inputs: Leading kernel dimensions that are summed over; they are the
      fan-in of the initializer.
    use_bias: Whether a bias of the remaining dimensions is added.
    kernel_init: Overrides the initializer (LeCun normal over the fan-in).
    dtype: Compute type; parameters are float32.
  """

  equation: str
  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  num_inputs: int = 1
  use_bias: bool = False
  kernel_init: Callable | None = None
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns the projection, of shape as in the equation's right side."""
    inputs = tuple(range(self.num_inputs))
    outputs = tuple(range(self.num_inputs, len(self.shape)))
    init = self.kernel_init or nn.initializers.variance_scaling(
      1.0, 'fan_in', 'truncated_normal', in_axis=inputs, out_axis=outputs
    )
    kernel = self.param(
      'kernel', nn.with_logical_partitioning(init, self.axes), self.shape
    )
    y = jnp.einsum(
      self.equation, x.astype(self.dtype), kernel.astype(self.dtype)
    )
    if self.use_bias:
      bias = self.param(
        'bias',
        nn.with_logical_partitioning(
          nn.initializers.zeros_init(), self.axes[self.num_inputs :]
        ),
        self.shape[self.num_inputs :],
      )
      y = y + bias.astype(self.dtype)
    return y
