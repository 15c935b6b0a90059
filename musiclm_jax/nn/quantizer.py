"""Residual vector quantizer: latents [B, T, D] <-> codes [B, T, Q].

Codebooks are a plain dict, a collection and no parameter: `embed` [Q, K, D],
the running sums `embed_sum` [Q, K, D] and `count` [Q, K] that it is the ratio
of, and whether a first batch has been seen, `initialized`. They move by
exponential averages, never by gradients (SoundStream §III-C). Everything is
computed over the global batch: under jit on a sharded batch, k-means and
replacement see all devices' frames and use one key.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from musiclm_jax.contracts.array_types import PRNGKey
from musiclm_jax.nn import kmeans

Codebooks = Mapping[str, Array]
_OFFSET = 0.1  # of the way to a member: the halves must not meet other entries


@struct.dataclass
class Quantized:
  """What `quantize` found.

  Attributes:
    values: Sum of the chosen entries of the active levels; constant, see
      `straight_through`.
    codes: Of every level, whether active or not.
    commitment: Mean squared distance of the active levels' residuals to
      their entries; its gradient goes to the latents alone.
  """

  values: Float[Array, 'B T D']
  codes: Int[Array, 'B T Q']
  commitment: Float[Array, ' B']


def init_codebooks(num_levels: int, codebook_size: int, dim: int) -> Codebooks:
  """Makes codebooks that wait for their first batch.

  Until `update` has seen it the quantizer is the identity; so no random
  codebook ever shapes a network.

  Args:
    num_levels: Q.
    codebook_size: K.
    dim: D.
  """
  return {
    'embed': jnp.zeros((num_levels, codebook_size, dim)),
    'embed_sum': jnp.zeros((num_levels, codebook_size, dim)),
    'count': jnp.zeros((num_levels, codebook_size)),
    'initialized': jnp.zeros((), bool),
  }


def quantize(
  codebooks: Codebooks,
  x: Float[Array, 'B T D'],
  num_active: Int[Array, ' B'] | None = None,
) -> Quantized:
  """Quantizes latents level by level, each the residual of those before.

  The chain of residuals always runs through all levels; `num_active` limits,
  per example, how many of them are summed. So dropout decides what a decoder
  reads, and never leaves deep levels without codes or statistics.

  Args:
    codebooks: Q levels of K entries.
    x: Latents, computed with in float32.
    num_active: Levels that count, in [1, Q]; None is all of them.

  Returns:
    Values, codes and commitment. Before the first `update` values are `x`.
  """
  x = x.astype(jnp.float32)
  num_levels = len(codebooks['embed'])
  if num_active is None:
    num_active = jnp.full((len(x),), num_levels)
  values = jnp.zeros_like(x)
  residual, codes, errors = x, [], []
  # Unrolled: XLA merges equal operations of two players, but not equal loops.
  for level, embed in enumerate(codebooks['embed']):
    chosen = kmeans.assign(jax.lax.stop_gradient(residual), embed)
    entries = jax.lax.stop_gradient(embed[chosen])
    active = level < num_active
    error = jnp.mean(jnp.square(residual - entries), axis=(1, 2))
    errors.append(jnp.where(active, error, 0.0))
    values = values + jnp.where(active[:, None, None], entries, 0.0)
    residual = residual - entries
    codes.append(chosen)
  initialized = codebooks['initialized']
  commitment = sum(errors) / num_active
  return Quantized(
    values=jax.lax.stop_gradient(jnp.where(initialized, values, x)),
    codes=jnp.stack(codes, axis=-1),
    commitment=jnp.where(initialized, commitment, 0.0),
  )


def straight_through(
  x: Float[Array, '...'], values: Float[Array, '...']
) -> Float[Array, '...']:
  """Returns exactly `values`, with the identity as gradient towards `x`.

  Written so that the forward value has no rounding of its own: decoding the
  codes later gives the same bits as the training forward pass.
  """
  return jax.lax.stop_gradient(values) + (x - jax.lax.stop_gradient(x))


def codes_of(
  codebooks: Codebooks, x: Float[Array, 'B T D']
) -> Int[Array, 'B T Q']:
  """Returns the codes of latents, int32 in [0, K)."""
  return quantize(codebooks, x).codes


def values_of(
  codebooks: Codebooks, codes: Int[Array, 'B T Q']
) -> Float[Array, 'B T D']:
  """Sums the entries that codes name, over as many levels as `codes` has.

  Raises:
    ValueError: If `codes` has more levels than the codebooks.
  """
  if codes.shape[-1] > len(codebooks['embed']):
    raise ValueError(
      f'expected at most {len(codebooks["embed"])} levels of codes, got '
      f'{codes.shape[-1]}'
    )
  shape = (*codes.shape[:-1], codebooks['embed'].shape[-1])
  values = jnp.zeros(shape)
  for level in range(codes.shape[-1]):
    values = values + codebooks['embed'][level][codes[..., level]]
  return values


def update(
  codebooks: Codebooks,
  x: Float[Array, 'B T D'],
  codes: Int[Array, 'B T Q'],
  rng: PRNGKey,
  *,
  decay: float = 0.99,
  dead_threshold: float = 2.0,
  kmeans_iterations: int = 10,
  zero_entries: int = 0,
  split_share: float = 0.0,
) -> Codebooks:
  """Moves the codebooks towards one batch of latents.

  The first batch ever sets every level by k-means on that level's residuals.
  After it, entries whose running count has fallen below the threshold are
  replaced by frames of this batch, in the running statistics too (or the same
  step would overwrite them); the others follow the running means.

  Args:
    codebooks: To be moved.
    x: The global batch of latents; no gradient passes.
    codes: What `quantize` found for them in these codebooks.
    rng: One key for all devices.
    decay: Of the running sums (0.99: SoundStream §III-C).
    dead_threshold: In frames a batch, for a batch of at least 8 frames an
      entry; scaled down with smaller batches, where every entry would look
      dead: min(dead_threshold, dead_threshold / 8 * N / K).
    kmeans_iterations: Of Lloyd's algorithm on the first batch.
    zero_entries: The first so many entries of each level stay zero for good.
      With one of them an all-zero latent (silence) is coded exactly, and no
      further level can make an approximation worse.
    split_share: Above 0, an entry is dead that has less than this share of the
      mean count, whatever `dead_threshold`, and the most used entries are
      split to replace dead ones; see `_split`. For residuals that have no
      clusters left, as those of deep levels: a frame of the batch is then as
      far from the next frame as two frames ever are, and no frame but itself
      prefers it to an entry that is the mean of many.
  """
  points = jax.lax.stop_gradient(x).astype(jnp.float32)
  points = points.reshape(-1, x.shape[-1])
  num_levels, size, _ = codebooks['embed'].shape
  mean_count = len(points) / size
  threshold = dead_threshold * min(1.0, mean_count / 8.0)
  free = jnp.arange(size) >= zero_entries
  # Which frames each level starts from, and replaces its dead entries by.
  order = jax.random.permutation(rng, len(points))
  picks = order[jnp.arange(num_levels * size) % len(points)]
  picks = picks.reshape(num_levels, size)

  def follow(residual: Array, level: tuple) -> tuple[Array, tuple]:
    picks, codes, *level = level
    fresh = residual[picks]
    if split_share:
      moved = _follow_means(level, residual, codes, decay)
      moved = _split(moved, residual, codes, order, split_share, free)
    else:
      moved = _follow(level, residual, codes, fresh, decay, threshold, free)
    # The next level learns on what this level has left in the forward pass.
    return residual - level[0][codes], moved

  def fit(residual: Array, picks: Array) -> tuple[Array, tuple]:
    level = _first_fit(residual, residual[picks], kmeans_iterations, free)
    return residual - level[0][kmeans.assign(residual, level[0])], level

  by_level = codes.reshape(-1, num_levels).T
  fields = ('embed', 'embed_sum', 'count')
  levels = picks, by_level, *(codebooks[name] for name in fields)
  moved = jax.lax.cond(
    codebooks['initialized'],
    lambda: jax.lax.scan(follow, points, levels)[1],
    lambda: jax.lax.scan(fit, points, picks)[1],
  )
  books = dict(zip(fields, moved, strict=True))
  return books | {'initialized': jnp.ones((), bool)}


def _first_fit(
  points: Float[Array, 'N D'],
  start: Float[Array, 'K D'],
  iterations: int,
  free: Bool[Array, ' K'],
) -> tuple[Array, Array, Array]:
  """Fits one level by k-means, started from some of the points."""
  embed = jnp.where(free[:, None], start, 0.0)

  def lloyd(_: int, embed: Array) -> Array:
    total, count, _ = kmeans.cluster_sums(points, embed)
    moved = total / jnp.maximum(count, 1.0)[:, None]
    return jnp.where((free & (count > 0))[:, None], moved, embed)

  embed = jax.lax.fori_loop(0, iterations, lloyd, embed)
  _, count, _ = kmeans.cluster_sums(points, embed)
  return embed, embed * count[:, None], count


def _follow(
  level: tuple[Array, Array, Array],
  points: Float[Array, 'N D'],
  codes: Int[Array, ' N'],
  fresh: Float[Array, 'K D'],
  decay: float,
  threshold: float,
  free: Bool[Array, ' K'],
) -> tuple[Array, Array, Array]:
  """Moves one level: running means, then new points for dead entries."""
  moved, _, count = _follow_means(level, points, codes, decay)
  # A replaced entry starts with the mean count: it has time to prove itself.
  dead = count < threshold
  fresh_count = max(threshold, len(points) / len(moved))
  embed = jnp.where(dead[:, None], fresh, moved)
  embed = jnp.where(free[:, None], embed, 0.0)
  count = jnp.where(dead & free, fresh_count, count)
  return embed, embed * count[:, None], count


def _follow_means(
  level: tuple[Array, Array, Array],
  points: Float[Array, 'N D'],
  codes: Int[Array, ' N'],
  decay: float,
) -> tuple[Array, Array, Array]:
  """Moves one level by its running means."""
  embed, embed_sum, count = level
  total, new_count = kmeans.member_sums(points, codes, len(embed))
  count = decay * count + (1.0 - decay) * new_count
  embed_sum = decay * embed_sum + (1.0 - decay) * total
  return embed_sum / jnp.maximum(count, 1e-9)[:, None], embed_sum, count


def _split(
  level: tuple[Array, Array, Array],
  points: Float[Array, 'N D'],
  codes: Int[Array, ' N'],
  order: Int[Array, ' N'],
  share: float,
  free: Bool[Array, ' K'],
) -> tuple[Array, Array, Array]:
  """Replaces dead entries of one level by halves of the most used ones.

  The n-th dead entry and the n-th most used one, c, become c ± d, where d
  points from c to one of its members: a plane through c divides its members,
  and each half gets half of the count (Linde, Buzo & Gray, 1980). Only an
  entry whose halves are not dead is split, so that the share in use at most
  doubles a step.

  Args:
    level: Entries, sums and counts, which have followed the batch.
    points: The batch.
    codes: Whose entries the points are.
    order: A permutation; of an entry's members the first one is drawn.
    share: Of the mean count, in (0, 1); below it an entry is dead.
    free: Entries that may move.
  """
  embed, _, count = level
  size = len(embed)
  threshold = share * count.sum() / size
  dead = (count < threshold) & free
  ranked = jnp.argsort(jnp.where(free, -count, jnp.inf))
  splittable = free & (count >= 2.0 * threshold)
  pairs = jnp.minimum(dead.sum(), splittable.sum())
  # Of each entry the place among the dead ones, and among the most used.
  taker = jnp.where(dead, jnp.cumsum(dead) - 1, size)
  rank = jnp.argsort(ranked)
  donor = ranked[jnp.minimum(taker, size - 1)]
  taken, gives = taker < pairs, rank < pairs
  # Where the batch holds no member of an entry, any of its points will do.
  first = jax.ops.segment_min(jnp.argsort(order), codes, size)
  member = points[order[jnp.minimum(first, len(points) - 1)]]
  offset = _OFFSET * (member - embed)
  new = jnp.where(taken[:, None], embed[donor] + offset[donor], embed)
  new = jnp.where(gives[:, None], embed - offset, new)
  new = jnp.where(free[:, None], new, 0.0)
  count = jnp.where(taken, count[donor], count)
  count = jnp.where(taken | gives, 0.5 * count, count)
  return new, new * count[:, None], count
