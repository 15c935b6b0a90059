"""Times our quantizer and k-means; prints one JSON line a variant."""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from task import CLUSTERS, ITERATIONS, TURNS, blobs, inertia, normal

from musiclm_jax.nn import kmeans, quantizer


def best(call) -> float:
  """Seconds of the fastest of some calls after one that compiles."""
  jax.block_until_ready(call())
  seconds = []
  for _ in range(TURNS):
    start = time.perf_counter()
    jax.block_until_ready(call())
    seconds.append(time.perf_counter() - start)
  return min(seconds)


def rvq(variant: str) -> dict:
  """Codes of latents, or a training step: gradient and moving codebooks."""
  latents, books = map(jnp.asarray, normal())
  sums = {'embed_sum': books, 'count': jnp.ones(books.shape[:2])}
  books = {'embed': books, **sums, 'initialized': jnp.ones((), bool)}
  if variant == 'rvq_eval':
    codes = jax.jit(quantizer.codes_of)
    return {'seconds': best(lambda: codes(books, latents))}

  def loss(x):
    quantized = quantizer.quantize(books, x)
    values = quantizer.straight_through(x, quantized.values)
    return jnp.mean(values**2) + quantized.commitment.sum()

  @jax.jit
  def step(books, x, key):
    gradient = jax.grad(loss)(x)
    moved = quantizer.update(books, x, key, decay=0.95)
    return gradient, moved

  key = jax.random.key(0)
  return {'seconds': best(lambda: step(books, latents, key))}


def lloyd(_: str) -> dict:
  """Lloyd's algorithm from random points."""
  points = jnp.asarray(blobs())
  start = points[jax.random.permutation(jax.random.key(0), len(points))]
  fit = jax.jit(lambda p, c: kmeans.lloyd(p, c, ITERATIONS))
  seconds = best(lambda: fit(points, start[:CLUSTERS]))
  centroids = np.asarray(fit(points, start[:CLUSTERS]))
  return {'seconds': seconds, 'inertia': inertia(np.asarray(points), centroids)}


VARIANTS = {'rvq_eval': rvq, 'rvq_train': rvq, 'kmeans': lloyd}

if __name__ == '__main__':
  name = sys.argv[1]
  print(json.dumps({'jax': jax.__version__, **VARIANTS[name](name)}))
