"""What k-means promises: seeds that spread, no empty cluster, any devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import kmeans


@pytest.fixture(scope='module')
def crowd():
  """One blob of 1,100 points and eleven of ten, far from each other."""
  rng = np.random.default_rng(4)
  centres = 100.0 * np.eye(12, 13)
  blobs = np.repeat(np.arange(12), [1100] + [10] * 11)
  points = centres[blobs] + rng.normal(0, 1, (len(blobs), 13))
  return points.astype(np.float32), blobs


def test_plus_plus_seeds_a_cluster_of_few_points_too(crowd):
  """Points drawn evenly would nearly all lie in the big one."""
  points, blobs = crowd
  for seed in range(5):
    seeds = kmeans.kmeans_plus_plus(jax.random.key(seed), points, 12)
    found = blobs[np.asarray(kmeans.assign(seeds, points))]
    assert len(set(found)) == 12


def test_minibatches_leave_no_cluster_empty(crowd):
  """Far centroids that no point chooses come to life."""
  points, _ = crowd
  centroids = jnp.full((20, 13), 1e3).at[0].set(0.0)
  counts = jnp.zeros(20)
  update = jax.jit(
    kmeans.minibatch_update, static_argnames=('decay', 'dead_share')
  )
  rng = np.random.default_rng(5)
  for step in range(40):
    centroids, counts, _ = update(
      jax.random.key(step),
      points[rng.permutation(len(points))[:600]],
      centroids,
      counts,
      decay=0.9,
      dead_share=0.02,
    )
  members = np.bincount(kmeans.assign(points, centroids), minlength=20)
  assert members.min() > 0


_SHARDED = """
import jax, numpy as np
from musiclm_jax.contracts.sharding import batch_sharding, make_mesh
from musiclm_jax.nn import kmeans

assert jax.device_count() == 8
points = np.random.default_rng(0).normal(size=(8200, 6)).astype(np.float32)
points[:4100] += 5.0


@jax.jit
def fit(points):
  seeds = kmeans.kmeans_plus_plus(jax.random.key(0), points, 16)
  centroids = kmeans.lloyd(points, seeds, 5)
  counts = jax.numpy.full(16, 20.0).at[3].set(0.0)
  moved, _, replaced = kmeans.minibatch_update(
    jax.random.key(1), points[:800], centroids.at[3].set(1e3), counts,
    decay=0.9, dead_share=0.05,
  )
  return seeds, centroids, moved, replaced


alone = fit(jax.device_put(points, jax.devices()[0]))
spread = jax.device_put(points, batch_sharding(make_mesh()))
assert len({s.index[0].start for s in spread.addressable_shards}) == 8
assert int(alone[-1]) == 1
for one, many in zip(alone, fit(spread)):
  np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)
"""


def test_seeds_lloyd_and_minibatch_are_the_same_on_eight_devices():
  """More points than one block, so that blocks lie across devices."""
  subprocess.run(
    [sys.executable, '-c', _SHARDED],
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
    },
    check=True,
  )
