"""Semantic tokens: features [B, T, D] -> codes [B, T, 1] by k-means.

Its one player owns a codebook and no parameters: corpus statistics first,
then k-means++ and Lloyd on one batch, then mini-batches.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from musiclm_jax.contracts.array_types import PRNGKey, PyTree
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import (
  Batch,
  BatchInfo,
  Collections,
  HealthCheck,
  LossFn,
  Metrics,
  Params,
)
from musiclm_jax.nn import kmeans
from musiclm_jax.w2v_bert.features import CODEBOOK_PLAYER as PLAYER
from musiclm_jax.w2v_bert.features import SemanticCodebook
from musiclm_jax.w2v_bert.frontend import (
  add_frames,
  init_statistics,
  standardise,
)


@dataclasses.dataclass(frozen=True)
class KMeansTask:
  """Fits the semantic codebook on features of the frozen network.

  Batches hold `features` [B, T, D], cut as long as the LM will see them. The
  player's collections are `statistics` per dimension, `centroids` [K, D] in
  standardised units, their decayed member `counts` [K] and whether they are
  `initialized`.

  Attributes:
    codebook: What is fitted.
    total_steps: Of the fit, statistics included.
    statistics_steps: First steps, which only gather mean and variance.
    lloyd_iterations: On the first batch after those.
    decay: Weight of the past per mini-batch.
    dead_share: Share of the mean count below which a centroid is replaced.
    frames_per_centroid: Fewest frames seen after the statistics, over K.

  Raises:
    UsageError: At construction, if no step is left for one of the phases.
  """

  codebook: SemanticCodebook
  total_steps: int
  statistics_steps: int
  lloyd_iterations: int = 20
  decay: float = 0.95
  dead_share: float = 0.05
  frames_per_centroid: int = 100

  def __post_init__(self):
    kmeans.check_phases('k-means', self.statistics_steps, self.total_steps)

  def init(self, rng: PRNGKey, batch: Batch) -> tuple[Params, Collections]:
    """Makes an empty codebook.

    Raises:
      UsageError: If the fit would see too few frames for K centroids.
    """
    del rng
    examples, frames, dim = batch['features'].shape
    per_batch = examples * frames
    seen = per_batch * (self.total_steps - self.statistics_steps)
    size = self.codebook.codebook_size
    needed = self.frames_per_centroid * size
    if seen < needed or per_batch < size:
      raise UsageError(
        f'k-means with K={size} needs {needed} frames, at least {size} a '
        f'batch; it would see {seen}, {per_batch} a batch: raise total_steps '
        'or batch_size, or lower codebook_size'
      )
    collections = {
      'statistics': init_statistics(dim),
      'centroids': jnp.zeros((size, dim), jnp.float32),
      'counts': jnp.zeros((size,), jnp.float32),
      'initialized': jnp.zeros((), bool),
    }
    return {PLAYER: {}}, {PLAYER: collections}

  def losses(self) -> dict[str, LossFn]:
    """Returns the one player's loss, the inertia; it has no gradient."""
    return {PLAYER: self._loss}

  def evaluate(
    self, params: Params, collections: Collections, batch: Batch
  ) -> Metrics:
    """Inertia per example; perplexity and use of the codebook, repeated.

    Inertia is the mean squared distance to the nearest centroid, per
    dimension: 1.0 is that of a single centroid at the mean.
    """
    del params
    own, features = collections[PLAYER], batch['features']
    codes = self.codebook.assign(collections, features)[..., 0]
    x = standardise(own['statistics'], features)
    distance = jnp.mean((x - own['centroids'][codes]) ** 2, axis=(1, 2))
    size = self.codebook.codebook_size
    used = jnp.bincount(codes.reshape(-1), length=size) > 0
    metrics = {
      'inertia': distance,
      'code_perplexity': kmeans.perplexity(codes[..., None], size)[0],
      'used_share': used.mean(),
    }
    return {k: jnp.broadcast_to(v, len(features)) for k, v in metrics.items()}

  def batch_info(self, batch: Batch) -> BatchInfo:
    """Frames; a codebook that collapses."""
    frames = batch['features'].shape[0] * batch['features'].shape[1]
    codes = min(self.codebook.codebook_size, frames)
    check = HealthCheck(
      'collapsed codebook', 'code_perplexity', codes, self.statistics_steps
    )
    return BatchInfo(frames, 'frames', (check,))

  def _loss(self, params, collections, batch, rng, step):
    del params
    fitting = jnp.where(collections[PLAYER]['initialized'], 2, 1)
    phase = jnp.where(step < self.statistics_steps, 0, fitting)
    own, replaced = jax.lax.switch(
      phase,
      (self._gather, self._begin, self._move),
      collections[PLAYER],
      batch['features'],
      rng,
    )
    new = {**collections, PLAYER: own}
    metrics = self.evaluate({}, new, batch)
    metrics = {k: v.mean() for k, v in metrics.items()}
    metrics |= {'replaced': replaced, 'phase': phase}
    return metrics['inertia'], (new, metrics)

  def _gather(
    self, own: PyTree, features: Array, rng: PRNGKey
  ) -> tuple[PyTree, Array]:
    """Phase 0: the corpus's mean and variance."""
    del rng
    statistics = add_frames(own['statistics'], features)
    return {**own, 'statistics': statistics}, jnp.zeros((), jnp.int32)

  def _begin(
    self, own: PyTree, features: Array, rng: PRNGKey
  ) -> tuple[PyTree, Array]:
    """Phase 1: k-means++ and Lloyd on the whole of one batch."""
    points = _points(own, features)
    centroids = kmeans.kmeans_plus_plus(
      rng, points, self.codebook.codebook_size
    )
    centroids = kmeans.lloyd(points, centroids, self.lloyd_iterations)
    _, counts, _ = kmeans.cluster_sums(points, centroids)
    begun = {
      **own,
      'centroids': centroids,
      'counts': counts,
      'initialized': jnp.ones((), bool),
    }
    return begun, jnp.zeros((), jnp.int32)

  def _move(
    self, own: PyTree, features: Array, rng: PRNGKey
  ) -> tuple[PyTree, Array]:
    """Phase 2: one mini-batch."""
    centroids, counts, replaced = kmeans.minibatch_update(
      rng,
      _points(own, features),
      own['centroids'],
      own['counts'],
      decay=self.decay,
      dead_share=self.dead_share,
    )
    moved = {**own, 'centroids': centroids, 'counts': counts}
    return moved, replaced.astype(jnp.int32)


def _points(own: PyTree, features: Array) -> Array:
  x = standardise(own['statistics'], features)
  return x.reshape(-1, x.shape[-1])
