"""Projections of one row by kernels of few bits, which CPUs do in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn.einsum import Einsum, Int8

# Equation, kernel and how many of its dimensions are summed over; the widths
# are one block, some, and none that is whole.
EQUATIONS = [
  ('btd,dhk->bthk', (96, 3, 64), 1),
  ('bthk,hkd->btd', (4, 16, 64), 2),
  ('btd,df->btf', (32, 256), 1),
  ('btd,df->btf', (32, 100), 1),
]


def projected(equation, kernel, shape, inputs, x):
  layer = Einsum(equation, shape, (None,) * len(shape), inputs)
  run = jax.jit(
    lambda kernel, x: layer.apply({'params': {'kernel': kernel}}, x)
  )
  return run, run(kernel, x)


@pytest.mark.parametrize(('equation', 'shape', 'inputs'), EQUATIONS)
@pytest.mark.parametrize('bits', [16, 8])
def test_one_row_is_projected_as_one_of_many(equation, shape, inputs, bits):
  rng = np.random.default_rng(0)
  x = rng.standard_normal((3, 1, *shape[:inputs])).astype(np.float32)
  kernel = jnp.asarray(rng.standard_normal(shape), jnp.bfloat16)
  if bits == 8:
    values = jnp.asarray(rng.integers(-127, 128, shape), jnp.int8)
    scale = jnp.asarray(rng.uniform(0.5, 2.0, (1,) * len(shape)), jnp.float32)
    kernel = Int8(values, scale)
  _, many = projected(equation, kernel, shape, inputs, x)
  for row in range(3):
    _, one = projected(equation, kernel, shape, inputs, x[row : row + 1])
    assert one.shape == many[row : row + 1].shape and one.dtype == jnp.float32
    largest = np.abs(many[row]).max()
    np.testing.assert_allclose(one[0], many[row], atol=1e-6 * largest)


def test_the_kernel_of_one_row_is_read_in_its_own_type():
  """Widened before it is read it would be twice as many bytes."""
  x, kernel = jnp.ones((1, 1, 32)), jnp.ones((32, 256), jnp.bfloat16)
  run, _ = projected('btd,df->btf', kernel, kernel.shape, 1, x)

  def many(kernel, x):
    step = lambda _, x: 1e-3 * run(kernel, x)[..., :32]  # noqa: E731
    return jax.lax.fori_loop(0, 8, step, x)

  text = jax.jit(many).lower(kernel, x).compile().as_text()
  assert 'bf16[4,32,64]' in text, 'blocks of the kernel, in the loop'
  assert 'f32[4,32,64]{2,1,0} fusion' not in text
