"""Compiles attention at growing lengths and reads the memory it asks for.

  JAX_PLATFORMS=cpu python experiments/attention_memory/run.py

Nothing is run: `memory_analysis` of the compiled programs says the bytes of
temporaries beside arguments and results, on this CPU (float32) and, compiled
ahead of time, on one TPU v5e (bfloat16). The dense attention is the formula
as it is written. Leaves results.json beside this file.
"""

import datetime
import functools
import importlib.util
import itertools
import json
import os
import platform
from pathlib import Path
from typing import Any

os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.contracts import atomic_file
from musiclm_jax.nn.blockwise_attention import BLOCK, blockwise_attention
from musiclm_jax.rehearsal.rehearsal import Memory
from musiclm_jax.rehearsal.topology import open_topology

HERE = Path(__file__).parent
HEADS, HEAD_DIM = 16, 64  # the paper's, of one example
LENGTHS = (1024, 2048, 4096, 8192)


def dense(query, key, value, row, *, causal):
  """softmax(q k + bias) v, all pairs at once."""
  length = query.shape[2]
  distance = np.arange(length)[:, None] - np.arange(length)
  logits = jnp.einsum(
    'bhqd,bhkd->bhqk', query, key, preferred_element_type=jnp.float32
  )
  logits += row[:, length - 1 - distance]
  if causal:
    logits = jnp.where(distance >= 0, logits, -1e9)
  weights = jax.nn.softmax(logits).astype(value.dtype)
  return jnp.einsum('bhqk,bhkd->bhqd', weights, value)


def ours(query, key, value, row, *, causal):
  """Ours, called as the Transformer calls it."""
  return blockwise_attention(query, key, value, bias_row=row, causal=causal)


def temporaries(attend, length, dtype, device, backward) -> int | None:
  """Bytes of temporaries; None where the program does not fit the device."""
  where = jax.sharding.SingleDeviceSharding(device)
  shape = functools.partial(jax.ShapeDtypeStruct, sharding=where)
  x = shape((1, HEADS, length, HEAD_DIM), dtype)
  row = shape((HEADS, 2 * length - 1), jnp.float32)

  def gradients(query, key, value, row, dy):
    y, pull = jax.vjp(attend, query, key, value, row)
    return y, pull(dy)

  function = gradients if backward else attend
  arguments = (x, x, x, row, x)[: 5 if backward else 4]
  try:
    program = jax.jit(function).lower(*arguments).compile()
  except jax.errors.JaxRuntimeError as error:
    if Memory.of_refusal(str(error)) is None:
      raise
    return None
  return Memory.of_compiled(program).temporaries


def print_table(rows: list[dict[str, Any]]) -> None:
  """Prints what the README shows, in MB."""
  print('| device | | pass | attention | 1k | 2k | 4k | 8k |')
  print('|---|---|---|---|---|---|---|---|')
  for row in rows:
    causal = 'causal' if row['causal'] else 'both ways'
    what = 'forward + backward' if row['backward'] else 'forward'
    sizes = [
      'does not fit' if size is None else f'{size / 1e6:,.1f}'
      for size in row['bytes'].values()
    ]
    cells = row['device'], causal, what, row['attention'], *sizes
    print('|', ' | '.join(cells), '|')


def main() -> None:
  """Compiles all, then writes and prints."""
  devices = {'CPU, float32': (jax.devices('cpu')[0], jnp.float32)}
  if importlib.util.find_spec('libtpu'):
    devices['v5e, bfloat16'] = open_topology('v5e:2x2').devices[0], jnp.bfloat16
  rows = []
  for name, causal, backward, attend in itertools.product(
    devices, (True, False), (False, True), (ours, dense)
  ):
    device, dtype = devices[name]
    bound = functools.partial(attend, causal=causal)
    found = {
      str(length): temporaries(bound, length, dtype, device, backward)
      for length in LENGTHS
    }
    rows.append(
      {
        'device': name,
        'causal': causal,
        'backward': backward,
        'attention': attend.__name__,
        'bytes': found,
      }
    )
    print(rows[-1], flush=True)
  results = {
    'date': datetime.date.today().isoformat(),
    'python': platform.python_version(),
    'jax': jax.__version__,
    'shape': [1, HEADS, 'T', HEAD_DIM],
    'block': BLOCK,
    'rows': rows,
  }
  atomic_file.write_text(
    HERE / 'results.json', json.dumps(results, indent=1) + '\n'
  )
  print_table(rows)


if __name__ == '__main__':
  main()
