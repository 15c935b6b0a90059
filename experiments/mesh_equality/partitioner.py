"""The smallest gradient that XLA's partitioner gets wrong on three mesh axes.

tanh(x @ w) @ v on 2 x 2 x 2 simulated devices: x cut over data and fsdp, both
kernels over (fsdp, tensor); by Shardy and by GSPMD, left to themselves and
with the weights gathered by `sharding.gather`.
"""

import itertools
import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from musiclm_jax.contracts import sharding

NAMES = 'embed', 'mlp'


def main() -> None:
  """Prints the largest error of each gradient, relative to its largest."""
  mesh = sharding.make_mesh(fsdp=2, tensor=2)
  rng = np.random.default_rng(0)
  x, w, v = (
    rng.normal(size=shape).astype('f')
    for shape in ((8, 4, 16), (16, 32), (32, 16))
  )

  def gradients(x, w, v, gathered: bool):
    def loss(kernels):
      with sharding.layout(mesh if gathered else None):
        w, v = (sharding.gather(kernel, NAMES) for kernel in kernels)
      return jnp.sum((jnp.tanh(x @ w) @ v) ** 2)

    return jax.grad(loss)((w, v))

  wanted = gradients(x, w, v, False)
  for shardy, gathered in itertools.product((True, False), repeat=2):
    jax.config.update('jax_use_shardy_partitioner', shardy)
    where = NamedSharding(mesh, PartitionSpec('fsdp', 'tensor'))
    found = jax.jit(
      lambda x, w, v, gathered=gathered: gradients(x, w, v, gathered),
      in_shardings=(sharding.batch_sharding(mesh), where, where),
      out_shardings=(where, where),
    )(x, w, v)
    errors = [
      float(np.abs(a - b).max() / np.abs(b).max())
      for a, b in zip(map(np.asarray, found), wanted, strict=True)
    ]
    print(
      'Shardy' if shardy else 'GSPMD',
      'gathered' if gathered else 'left to itself',
      *(f'{error:.1e}' for error in errors),
    )


if __name__ == '__main__':
  main()
