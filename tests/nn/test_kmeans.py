import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.nn import kmeans


@pytest.fixture(scope='module')
def blobs():
  rng = np.random.default_rng(0)
  centres = rng.normal(0, 4, (12, 5))
  points = centres[rng.integers(0, 12, 1500)] + rng.normal(0, 1, (1500, 5))
  return points.astype(np.float32)


def inertia(points, centroids):
  return float(kmeans.squared_distances(points, centroids).min(axis=1).mean())


def fit(seed, points, k, iterations):
  seeds = kmeans.kmeans_plus_plus(jax.random.key(seed), points, k)
  return jax.jit(kmeans.lloyd, static_argnums=2)(points, seeds, iterations)


def test_lloyd_reaches_the_inertia_of_sklearn(blobs):
  from sklearn.cluster import KMeans

  theirs = KMeans(12, n_init=5, random_state=0).fit(blobs).inertia_ / len(blobs)
  ours = min(inertia(blobs, fit(seed, blobs, 12, 30)) for seed in range(5))
  assert ours <= 1.01 * theirs


def test_lloyd_from_the_same_start_equals_sklearn(blobs):
  from sklearn.cluster import KMeans

  start = blobs[:12]
  reference = KMeans(12, init=start, n_init=1, max_iter=3, tol=0.0).fit(blobs)
  ours = kmeans.lloyd(blobs, start, 3)
  np.testing.assert_allclose(ours, reference.cluster_centers_, atol=1e-4)


def test_assignment_is_the_nearest_centroid(blobs):
  centroids = blobs[:7]
  distances = ((blobs[:, None] - centroids) ** 2).sum(-1)
  np.testing.assert_array_equal(
    kmeans.assign(blobs, centroids), distances.argmin(1)
  )
  np.testing.assert_allclose(
    kmeans.squared_distances(blobs, centroids), distances, atol=1e-3
  )


def test_plus_plus_seeds_are_distinct_points(blobs):
  seeds = np.asarray(kmeans.kmeans_plus_plus(jax.random.key(1), blobs, 64))
  assert len(np.unique(seeds, axis=0)) == 64
  rows = {row.tobytes() for row in blobs}
  assert all(seed.tobytes() in rows for seed in seeds)


def test_lloyd_leaves_no_cluster_empty(blobs):
  start = np.zeros((20, 5), np.float32)
  start[1:] = 1e3  # nineteen centroids that no point will choose
  fitted = kmeans.lloyd(blobs, start, 10)
  counts = np.bincount(kmeans.assign(blobs, fitted), minlength=20)
  assert counts.min() > 0


def test_minibatches_approach_the_inertia_of_lloyd(blobs):
  centroids = kmeans.kmeans_plus_plus(jax.random.key(0), blobs[:100], 12)
  counts = jnp.zeros(12)
  update = jax.jit(
    kmeans.minibatch_update, static_argnames=('decay', 'dead_share')
  )
  rng = np.random.default_rng(1)
  for step in range(60):
    batch = blobs[rng.integers(0, len(blobs), 200)]
    centroids, counts, _ = update(
      jax.random.key(step),
      batch,
      centroids,
      counts,
      decay=0.95,
      dead_share=0.05,
    )
  assert inertia(blobs, centroids) < 1.15 * inertia(
    blobs, fit(0, blobs, 12, 30)
  )


def test_dead_centroid_lives_on_after_replacement(blobs):
  """Mistake 12: replaced in the codebook, but not in its EMA state."""
  centroids = jnp.asarray(np.concatenate([blobs[:11], np.full((1, 5), 1e3)]))
  counts = jnp.concatenate([jnp.full((11,), 50.0), jnp.zeros(1)])
  kwargs = {'decay': 0.9, 'dead_share': 0.05}
  moved, counts, replaced = kmeans.minibatch_update(
    jax.random.key(0), blobs, centroids, counts, **kwargs
  )
  assert int(replaced) == 1
  assert np.abs(moved[11]).max() < 100
  assert counts[11] > 0.05 * counts.mean()
  again, _, replaced = kmeans.minibatch_update(
    jax.random.key(1), blobs, moved, counts, **kwargs
  )
  assert int(replaced) == 0
  assert np.abs(again[11]).max() < 100


def test_perplexity_counts_codes_in_use():
  assert kmeans.perplexity(jnp.array([[3]] * 3), 8)[0] == pytest.approx(1.0)
  assert kmeans.perplexity(jnp.arange(8)[:, None], 8)[0] == pytest.approx(
    8.0, rel=1e-5
  )


def test_sums_are_those_of_the_nearest_in_blocks_and_rest(monkeypatch):
  monkeypatch.setattr(kmeans, '_BLOCK', 16)
  for count in (15, 32, 41):
    points = np.random.default_rng(count).standard_normal((count, 3))
    centroids = points[:5]
    distances = ((points[:, None] - centroids) ** 2).sum(axis=-1)
    codes = distances.argmin(axis=1)
    sums, counts, nearest = jax.jit(kmeans.cluster_sums)(points, centroids)
    np.testing.assert_array_equal(counts, np.bincount(codes, minlength=5))
    np.testing.assert_allclose(nearest, distances.min(axis=1), atol=1e-5)
    for code in range(5):
      expected = points[codes == code].sum(axis=0)
      np.testing.assert_allclose(sums[code], expected, rtol=1e-4, atol=1e-5)


def test_the_first_of_equals_is_the_nearest_and_nan_has_a_code():
  centroids = np.array([[5.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
  points = np.array([[[1.0, 0.0], [0.0, 0.0], [-2.0, 1.0], [np.nan, 0.0]]])
  codes = kmeans.assign(points, centroids)
  np.testing.assert_array_equal(codes[:, :3], [[1, 1, 2]])
  assert codes.shape == (1, 4) and 0 <= codes[0, 3] < 4
