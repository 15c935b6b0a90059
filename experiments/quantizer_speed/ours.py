"""Times our quantizer and k-means; prints one JSON line a variant."""

import json
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from task import CLUSTERS, ITERATIONS, best, blobs, inertia, normal

from musiclm_jax.nn import kmeans, quantizer


def timed(call: Callable[[], Any]) -> dict:
  """Seconds of a call until its arrays are there."""
  return {'seconds': best(lambda: jax.block_until_ready(call()))[0]}


def rvq(variant: str) -> dict:
  """Codes of latents, or a training step: gradient and moving codebooks."""
  latents, books = map(jnp.asarray, normal())
  sums = {'embed_sum': books, 'count': jnp.ones(books.shape[:2])}
  books = {'embed': books, **sums, 'initialized': jnp.ones((), bool)}
  if variant == 'rvq_eval':
    codes = jax.jit(quantizer.codes_of)
    return timed(lambda: codes(books, latents))

  def loss(x):
    quantized = quantizer.quantize(books, x)
    values = quantizer.straight_through(x, quantized.values)
    return jnp.mean(values**2) + quantized.commitment.sum(), quantized.codes

  @jax.jit
  def step(books, x, key):
    gradient, codes = jax.grad(loss, has_aux=True)(x)
    moved = quantizer.update(books, x, codes, key, decay=0.95)
    return gradient, moved

  key = jax.random.key(0)
  return timed(lambda: step(books, latents, key))


def lloyd(_: str) -> dict:
  """Lloyd's algorithm from random points."""
  points = jnp.asarray(blobs())
  start = points[jax.random.permutation(jax.random.key(0), len(points))]
  fit = jax.jit(lambda p, c: kmeans.lloyd(p, c, ITERATIONS))
  seconds, centroids = best(
    lambda: jax.block_until_ready(fit(points, start[:CLUSTERS]))
  )
  points, centroids = map(np.asarray, (points, centroids))
  return {'seconds': seconds, 'inertia': inertia(points, centroids)}


VARIANTS = {'rvq_eval': rvq, 'rvq_train': rvq, 'kmeans': lloyd}

if __name__ == '__main__':
  name = sys.argv[1]
  print(json.dumps({'jax': jax.__version__, **VARIANTS[name](name)}))
