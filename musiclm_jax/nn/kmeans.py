"""k-means on a global batch: points [N, D] -> centroids [K, D].

Pure functions of arrays: under `jax.jit` with a batch cut over devices, sums
and draws are over the whole batch, so the codebook does not depend on the
number of devices. Distances have precision HIGHEST: bfloat16 products would
give other codes on other machines.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from musiclm_jax.contracts.array_types import PRNGKey
from musiclm_jax.contracts.errors import UsageError

_HIGHEST = jax.lax.Precision.HIGHEST
_BLOCK = 1024  # points whose distances fit into a core's cache


def check_phases(name: str, statistics_steps: int, total_steps: int) -> None:
  """Refuses a fit of which a phase, statistics or codebook, has no step.

  Raises:
    UsageError: By the name of what is fitted.
  """
  if not 0 < statistics_steps < total_steps:
    raise UsageError(
      f'{name} needs 0 < statistics_steps < total_steps, got '
      f'{statistics_steps} and {total_steps}: set '
      'config.schedule.total_steps or config.loss.statistics_steps'
    )


def squared_distances(
  points: Float[Array, 'N D'], centroids: Float[Array, 'K D']
) -> Float[Array, 'N K']:
  """Computes squared Euclidean distances, never below zero."""
  products = jnp.matmul(points, centroids.T, precision=_HIGHEST)
  lengths = jnp.sum(points * points, axis=-1, keepdims=True)
  distances = lengths - 2.0 * products + jnp.sum(centroids**2, axis=-1)
  return jnp.maximum(distances, 0.0)


def assign(
  points: Float[Array, '... D'], centroids: Float[Array, 'K D']
) -> Int[Array, '...']:
  """Finds each point's nearest centroid in L2, the first of equals, int32."""
  flat = points.reshape(-1, points.shape[-1])
  codes = _assign
  if len(flat) > _BLOCK:
    codes = functools.partial(
      jax.lax.platform_dependent, cpu=_assign_by_block, default=_assign
    )
  return codes(flat, centroids).reshape(points.shape[:-1])


def _assign(points: Array, centroids: Array) -> Array:
  """`assign` at once. XLA's own argmin is no vector code on CPU; minima are.

  Indices are compared as float32, which is exact for 16 million centroids.
  """
  products = jnp.matmul(points, 2.0 * centroids.T, precision=_HIGHEST)
  score = jnp.sum(centroids**2, axis=-1) - products
  size = len(centroids)
  smallest = score <= score.min(axis=-1, keepdims=True)
  order = jnp.where(smallest, jnp.arange(size, dtype=jnp.float32), size - 1.0)
  return order.min(axis=-1).astype(jnp.int32)


def _assign_by_block(points: Array, centroids: Array) -> Array:
  """`assign` on CPU, where a block's distances stay in the cache.

  The last block reaches back, so that all are of one shape.
  """
  number = -(-len(points) // _BLOCK)
  starts = jnp.minimum(_BLOCK * jnp.arange(number), len(points) - _BLOCK)

  def codes_at(start: Array) -> Array:
    block = jax.lax.dynamic_slice_in_dim(points, start, _BLOCK)
    return _assign(block, centroids)

  codes = jax.lax.map(codes_at, starts)
  rest = len(points) - (number - 1) * _BLOCK
  return jnp.concatenate([codes[:-1].reshape(-1), codes[-1, -rest:]])


def member_sums(
  points: Float[Array, 'N D'], codes: Int[Array, 'N'], k: int
) -> tuple[Float[Array, 'K D'], Float[Array, 'K']]:
  """Sums and counts the points of each of k codes.

  By additions on CPU; accelerators do best, and always alike, by a product.
  """

  def by_addition(points: Array, codes: Array) -> tuple[Array, Array]:
    ones = jnp.ones(len(points), points.dtype)
    return (
      jax.ops.segment_sum(points, codes, k),
      jax.ops.segment_sum(ones, codes, k),
    )

  def by_product(points: Array, codes: Array) -> tuple[Array, Array]:
    members = jax.nn.one_hot(codes, k, dtype=points.dtype)
    sums = jnp.matmul(members.T, points, precision=_HIGHEST)
    return sums, members.sum(axis=0)

  return jax.lax.platform_dependent(
    points, codes, cpu=by_addition, default=by_product
  )


def kmeans_plus_plus(
  rng: PRNGKey, points: Float[Array, 'N D'], k: int
) -> Float[Array, 'K D']:
  """Seeds centroids one by one, each in proportion to D².

  D is a point's distance to the nearest centroid so far (Arthur &
  Vassilvitskii, 2007). Of 2 + ln k draws the one that lowers the sum of D²
  most is kept, the greedy form of the same paper.

  Args:
    rng: Of the draws.
    points: At least k of them if all centroids shall differ.
    k: Centroids, K.
  """
  points = jnp.asarray(points)
  draws = 2 + int(math.log(k))
  keys = jax.random.split(rng, k)
  start = points[jax.random.randint(keys[0], (), 0, len(points))]
  centroids = jnp.zeros((k, points.shape[1]), points.dtype).at[0].set(start)

  def add(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
    centroids, nearest = carry
    # Zero-distance points have log-weight -inf: they are never drawn while
    # another one is left.
    drawn = jax.random.categorical(
      keys[index], jnp.log(nearest), shape=(draws,)
    )
    distances = squared_distances(points, points[drawn])
    distances = jnp.minimum(nearest[:, None], distances)
    best = jnp.argmin(distances.sum(axis=0))
    chosen = points[drawn[best]]
    nearest = jnp.minimum(nearest, _exact(points, chosen))
    return centroids.at[index].set(chosen), nearest

  nearest = jnp.sum((points - start) ** 2, axis=-1)
  return jax.lax.fori_loop(1, k, add, (centroids, nearest))[0]


def lloyd(
  points: Float[Array, 'N D'], centroids: Float[Array, 'K D'], iterations: int
) -> Float[Array, 'K D']:
  """Runs Lloyd's algorithm; an empty cluster moves to a far point.

  Empty clusters take the points that lie farthest from their centroids, one
  point each.

  Args:
    points: The data.
    centroids: Where to begin.
    iterations: Number of assign-and-average rounds.
  """

  points, centroids = jnp.asarray(points), jnp.asarray(centroids)

  def one(_: Array, centroids: Array) -> Array:
    sums, counts, nearest = cluster_sums(points, centroids)
    means = sums / jnp.maximum(counts, 1.0)[:, None]
    _, farthest = jax.lax.top_k(nearest, min(len(points), len(centroids)))
    return jnp.where(
      (counts > 0)[:, None], means, _deal(points[farthest], counts == 0)
    )

  return jax.lax.fori_loop(0, iterations, one, centroids)


def cluster_sums(
  points: Float[Array, 'N D'], centroids: Float[Array, 'K D']
) -> tuple[Float[Array, 'K D'], Float[Array, 'K'], Float[Array, 'N']]:
  """Sums points by nearest centroid.

  Returns:
    Sums [K, D], counts [K] and each point's squared distance [N].
  """
  codes = assign(points, centroids)
  sums, counts = member_sums(points, codes, len(centroids))
  return sums, counts, _exact(points, centroids[codes])


def _exact(points: Array, centroids: Array) -> Array:
  """Squared distance row by row; `squared_distances` cancels near zero."""
  return jnp.sum((points - centroids) ** 2, axis=-1)


def minibatch_update(
  rng: PRNGKey,
  points: Float[Array, 'N D'],
  centroids: Float[Array, 'K D'],
  counts: Float[Array, 'K'],
  *,
  decay: float,
  dead_share: float,
) -> tuple[Float[Array, 'K D'], Float[Array, 'K'], Int[Array, '']]:
  """Moves centroids by one mini-batch and replaces dead ones.

  A centroid becomes the mean of its members so far, the past weighing `decay`
  per batch (1.0 is Sculley, 2010). A centroid with fewer than `dead_share`
  times the mean count is dead: it moves to a point of this batch, drawn
  without replacement in proportion to the squared distance to its centroid,
  and its count starts at a quarter of the mean, so that it is neither judged
  at once nor too heavy to move.

  Args:
    rng: Of the replacements.
    points: The mini-batch.
    centroids: Present ones.
    counts: Their decayed numbers of members.
    decay: In (0, 1].
    dead_share: Share of the mean count below which a centroid is dead.

  Returns:
    New centroids, new counts and how many centroids were replaced.
  """
  points, centroids = jnp.asarray(points), jnp.asarray(centroids)
  sums, members, nearest = cluster_sums(points, centroids)
  past = decay * counts
  new_counts = past + members
  moved = centroids * past[:, None] + sums
  moved = jnp.where(
    (new_counts > 0)[:, None],
    moved / jnp.maximum(new_counts, 1e-12)[:, None],
    centroids,
  )
  mean = new_counts.mean()
  dead = new_counts < dead_share * mean
  score = jnp.log(nearest) + jax.random.gumbel(rng, nearest.shape)
  _, drawn = jax.lax.top_k(score, min(len(points), len(centroids)))
  centroids = jnp.where(dead[:, None], _deal(points[drawn], dead), moved)
  counts = jnp.where(dead, 0.25 * mean, new_counts)
  return centroids, counts, dead.sum()


def perplexity(
  codes: Int[Array, '... Q'], codebook_size: int
) -> Float[Array, ' Q']:
  """Computes exp(entropy) of each level's codes over all other axes.

  It is the number of entries in even use: K at best, 1 at collapse.
  """
  flat = codes.reshape(-1, codes.shape[-1])
  levels = jnp.arange(codes.shape[-1])
  count = jnp.zeros((codes.shape[-1], codebook_size))
  count = count.at[jnp.broadcast_to(levels, flat.shape), flat].add(1.0)
  share = count / len(flat)
  return jnp.exp(jax.scipy.special.entr(share).sum(axis=-1))


def _deal(
  candidates: Float[Array, 'M D'], takers: Array
) -> Float[Array, 'K D']:
  """Gives the n-th taker the n-th candidate; other rows mean nothing."""
  order = jnp.cumsum(takers) - 1
  return candidates[jnp.clip(order, 0, len(candidates) - 1)]
