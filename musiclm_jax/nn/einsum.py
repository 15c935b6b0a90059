"""Parameters with named axes, and the one projection layer, an einsum.

Whatever is large is made by `parameter` and projected by `Einsum`.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts import sharding

# Columns that a CPU multiplies with one row at a time.
_BLOCK = 64


@flax.struct.dataclass
class Int8:
  """A parameter in a quarter of the memory, for decoding.

  Attributes:
    values: int8, of the shape of the parameter.
    scale: Of what shares it; 1 long there.
  """

  values: Array
  scale: Array

  def astype(self, dtype: jnp.dtype | str) -> Array:
    """What it stands for."""
    return self.values.astype(dtype) * self.scale.astype(dtype)


def parameter(
  module: nn.Module,
  name: str,
  init: Callable,
  shape: Sequence[int],
  axes: Sequence[str | None],
  dtype: jnp.dtype | str = jnp.float32,
) -> Array:
  """Makes or reads a float32 parameter of a module, for use in `dtype`.

  It lies over devices as its axes say; what comes back is whole over those
  that share it only to save memory, see `sharding.gather`. It is cast first,
  so that half as many bytes travel in bfloat16. Where decoding keeps it in
  bfloat16 or as `Int8`, it comes in bfloat16 whatever `dtype` is.

  Args:
    module: Whose parameter it is.
    name: Of the parameter.
    init: Initializer, `(key, shape) -> values`.
    shape: Of the parameter.
    axes: Logical axis name of each dimension or None, see `sharding.RULES`.
    dtype: Compute type.
  """
  boxed = nn.with_logical_partitioning(init, tuple(axes))
  value = module.param(name, boxed, tuple(shape))
  if isinstance(value, Int8) or value.dtype == jnp.bfloat16:
    dtype = jnp.bfloat16
  return sharding.gather(value.astype(dtype), axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def project(
  equation: str,
  precision: jax.lax.Precision | None,
  x: Array,
  kernel: Array,
) -> Array:
  """Computes `jnp.einsum(equation, x, kernel)`, whose gradient is quicker.

  A CPU turns the first operand of the product that is the kernel's gradient,
  at many times the cost of reading it. JAX takes the output's gradient first;
  here it is whichever is smaller.
  """
  return jnp.einsum(equation, x, kernel, precision=precision)


def _project_forward(equation, precision, x, kernel):
  # Not by `project`, inside of which a remat's policy would see no product.
  return jnp.einsum(equation, x, kernel, precision=precision), (x, kernel)


def _project_backward(equation, precision, kept, dy):
  x, kernel = kept
  product = functools.partial(jnp.einsum, precision=precision)
  operands, result = equation.split('->')
  inputs, weights = operands.split(',')
  dx = product(f'{result},{weights}->{inputs}', dy, kernel)
  if x.size <= dy.size:
    return dx, product(f'{inputs},{result}->{weights}', x, dy)
  turned = ''.join(sorted(weights, key=lambda axis: axis in inputs))
  dkernel = product(f'{result},{inputs}->{turned}', dy, x)
  return dx, jnp.einsum(f'{turned}->{weights}', dkernel)


project.defvjp(_project_forward, _project_backward)


class Einsum(nn.Module):
  """Projects its input with a kernel, `jnp.einsum(equation, x, kernel)`.

  Attributes:
    equation: Documents the activations, e.g. `'btd,dhk->bthk'`.
    shape: Of the kernel.
    axes: Logical axis name of each kernel dimension (`embed`, `mlp`, `heads`,
      `head_dim`, `vocab`, `channels`) or None; `sharding.RULES` map them.
    num_inputs: Leading kernel dimensions that are summed over; they are the
      fan-in of the initializer.
    use_bias: Whether a bias of the remaining dimensions is added.
    kernel_init: Overrides the initializer (LeCun normal over the fan-in).
    dtype: Compute type; parameters are float32.
    precision: Of the products; HIGHEST where codes come out, because float32
      is bfloat16 on a TPU by default.
  """

  equation: str
  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  num_inputs: int = 1
  use_bias: bool = False
  kernel_init: Callable | None = None
  dtype: jnp.dtype = jnp.float32
  precision: jax.lax.Precision | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns the projection, of shape as in the equation's right side."""
    inputs = tuple(range(self.num_inputs))
    outputs = tuple(range(self.num_inputs, len(self.shape)))
    init = self.kernel_init or nn.initializers.variance_scaling(
      1.0, 'fan_in', 'truncated_normal', in_axis=inputs, out_axis=outputs
    )
    kernel = parameter(self, 'kernel', init, self.shape, self.axes, self.dtype)
    if kernel.dtype == self.dtype:
      y = project(self.equation, self.precision, x.astype(self.dtype), kernel)
    else:
      y = self._project_few_bits(x.astype(kernel.dtype), kernel)
    if self.use_bias:
      y = y + parameter(
        self,
        'bias',
        nn.initializers.zeros_init(),
        self.shape[self.num_inputs :],
        self.axes[self.num_inputs :],
        self.dtype,
      )
    return y

  def _project_few_bits(self, x: Array, kernel: Array) -> Array:
    """Multiplies in the kernel's type and sums in `dtype`."""

    def product(x: Array, kernel: Array) -> Array:
      return jnp.einsum(
        self.equation, x, kernel, preferred_element_type=self.dtype
      )

    def of_one_row(x: Array, kernel: Array) -> Array:
      blocks = kernel.reshape(x.size, -1, _BLOCK).swapaxes(0, 1)
      # A loop's body is left by what does not change in it, as the blocks do
      # not: they shall, in their own type, and be widened where they are read.
      x, blocks = jax.lax.optimization_barrier((x, blocks))
      column = x.reshape(x.size, 1).astype(self.dtype)
      y = (column * blocks.astype(self.dtype)).sum(axis=1)
      rows = x.shape[: x.ndim - self.num_inputs]
      return y.reshape(*rows, *kernel.shape[self.num_inputs :])

    fan_in = math.prod(kernel.shape[: self.num_inputs])
    if x.size > fan_in or kernel.size // fan_in % _BLOCK:
      return product(x, kernel)
    return jax.lax.platform_dependent(
      x, kernel, cpu=of_one_row, default=product
    )
