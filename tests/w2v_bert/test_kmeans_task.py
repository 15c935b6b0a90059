import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.w2v_bert.features import SemanticCodebook
from musiclm_jax.w2v_bert.kmeans_task import KMeansTask

STEPS = 14


def make_batches(seed=0):
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(8, 3))
  scale, shift = np.array([0.01, 1.0, 100.0]), np.array([5.0, 0.0, -300.0])
  return [
    {
      'features': (
        (
          centres[rng.integers(0, 8, (4, 40))]
          + 0.1 * rng.normal(size=(4, 40, 3))
        )
        * scale
        + shift
      ).astype(np.float32)
    }
    for _ in range(STEPS)
  ]


def make_task(codebook_size=8, **kwargs):
  return KMeansTask(
    SemanticCodebook(codebook_size),
    **{'total_steps': STEPS, 'statistics_steps': 4} | kwargs,
  )


def fit(task, batches):
  _, collections = task.init(jax.random.key(0), batches[0])
  step = jax.jit(task.losses()['kmeans'])
  log = []
  for k, batch in enumerate(batches):
    _, (collections, metrics) = step(
      {'kmeans': {}}, collections, batch, jax.random.key(k), jnp.int32(k)
    )
    log.append({name: float(v) for name, v in metrics.items()})
  return collections, log


@pytest.fixture(scope='module')
def batches():
  return make_batches()


@pytest.fixture(scope='module')
def fitted(batches):
  return fit(make_task(), batches)


def test_fit_goes_through_its_three_phases(fitted):
  _, log = fitted
  assert [m['phase'] for m in log] == [0] * 4 + [1] + [2] * 9
  assert log[3]['inertia'] > 0.5 > log[5]['inertia']


def test_dimensions_weigh_the_same_whatever_their_scale(fitted, batches):
  """Mistake 20: statistics per dimension over the data, from phase one."""
  collections, _ = fitted
  statistics = collections['kmeans']['statistics']
  corpus = np.concatenate([b['features'].reshape(-1, 3) for b in batches[:4]])
  np.testing.assert_allclose(statistics['mean'], corpus.mean(0), rtol=1e-3)
  assert statistics['count'] == len(corpus)
  spread = np.asarray(collections['kmeans']['centroids']).std(axis=0)
  assert spread.max() < 3 * spread.min()


def test_fit_reaches_the_inertia_of_sklearn(fitted, batches):
  from sklearn.cluster import KMeans

  collections, _ = fitted
  x = np.concatenate([b['features'].reshape(-1, 3) for b in batches])
  own = collections['kmeans']['statistics']
  x = (x - np.asarray(own['mean'])) / np.sqrt(np.asarray(own['variance']))
  reference = KMeans(8, n_init=5, random_state=0).fit(x).inertia_ / x.size
  ours = np.mean(
    [
      np.mean(make_task().evaluate({}, collections, batch)['inertia'])
      for batch in batches
    ]
  )
  assert ours < 1.3 * reference


def test_no_cluster_is_empty(fitted, batches):
  collections, log = fitted
  codes = [
    make_task().codebook.assign(collections, jnp.asarray(b['features']))
    for b in batches
  ]
  assert np.bincount(np.concatenate(codes).ravel(), minlength=8).min() > 0
  assert log[-1]['used_share'] == 1.0


def test_tokens_are_indices_of_the_nearest_centroid(fitted, batches):
  collections, _ = fitted
  features = jnp.asarray(batches[0]['features'])
  codes = make_task().codebook.assign(collections, features)
  assert codes.shape == (4, 40, 1)
  assert codes.dtype == jnp.int32
  own = collections['kmeans']
  deviation = jnp.sqrt(own['statistics']['variance'] + 1e-5)
  x = (features - own['statistics']['mean']) / deviation
  distances = ((x[:, :, None] - own['centroids']) ** 2).sum(-1)
  np.testing.assert_array_equal(codes[..., 0], distances.argmin(-1))


def test_evaluation_is_per_example(fitted, batches):
  collections, _ = fitted
  metrics = make_task().evaluate({'kmeans': {}}, collections, batches[0])
  assert all(values.shape == (4,) for values in metrics.values())
  assert np.ptp(metrics['inertia']) > 0


def test_two_fits_of_one_seed_are_the_same(fitted, batches):
  again, _ = fit(make_task(), batches)
  for a, b in zip(*map(jax.tree.leaves, (fitted[0], again)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_too_little_data_is_refused(batches):
  with pytest.raises(UsageError, match=r'needs 1700 frames.*would see 1600'):
    make_task(codebook_size=17).init(jax.random.key(0), batches[0])
  with pytest.raises(UsageError, match='0 < statistics_steps < total_steps'):
    make_task(statistics_steps=STEPS)


def test_codebook_does_not_depend_on_the_number_of_devices(tmp_path, fitted):
  """Mistake 13: k-means seeds and replacements per replica."""
  script = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
sys.path.insert(0, sys.argv[1])
from test_kmeans_task import fit, make_batches, make_task
from musiclm_jax.contracts.sharding import batch_sharding, make_mesh
assert jax.device_count() == 4
mesh = make_mesh()
batches = [
  {k: jax.device_put(v, batch_sharding(mesh)) for k, v in batch.items()}
  for batch in make_batches()
]
collections, _ = fit(make_task(), batches)
np.save(sys.argv[2], collections['kmeans']['centroids'])
"""
  out = tmp_path / 'centroids.npy'
  subprocess.run(
    [sys.executable, '-c', script, os.path.dirname(__file__), str(out)],
    env=os.environ | {'XLA_FLAGS': '--xla_force_host_platform_device_count=4'},
    check=True,
  )
  np.testing.assert_allclose(
    np.load(out), fitted[0]['kmeans']['centroids'], rtol=1e-4, atol=1e-5
  )
