"""The parallel LM: codes, some of them masked -> logits of one level [B, T, K].

A bidirectional Transformer over acoustic frames (SoundStorm, 2305.09636). The
input of a frame is the sum of what is known of it: its semantic token and which
of the two frames of that token it is, the codes of all levels, and the clip's
MuLan tokens. Each level of each stream has embeddings of its own, one for
"masked" among them.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import Codes, Latents
from musiclm_jax.nn.einsum import parameter
from musiclm_jax.nn.transformer import Transformer
from musiclm_jax.token_lm.layout import Layout


class ParallelLM(nn.Module):
  """Tells the codes of one level from what is known of all.

  Attributes:
    layout: What is read and what is predicted.
    transformer: The bidirectional Transformer.
    embedding_scale: Standard deviation of what each stream adds at first.
  """

  layout: Layout
  transformer: Transformer
  embedding_scale: float = 1.0

  def setup(self) -> None:
    width, predicted = self.transformer.embed_dim, self.layout.predicted
    rows = np.concatenate(
      [_scales(s.num_levels, s.codebook_size) for s in self.layout.segments]
    )
    self.embedding = parameter(
      self,
      'embedding',
      _scaled_normal(self.embedding_scale * rows),
      (len(rows), width),
      ('vocab', 'embed'),
    )
    self.place = parameter(
      self,
      'place',
      nn.initializers.normal(self.embedding_scale),
      (max(self._ratios), width),
      (None, 'embed'),
    )
    self.output = parameter(
      self,
      'output',
      nn.initializers.normal(width**-0.5),
      (predicted.num_levels, predicted.codebook_size, width),
      (None, 'vocab', 'embed'),
    )

  def __call__(
    self,
    conditioning: Sequence[Codes],
    codes: Codes,
    level: Array | int,
    *,
    deterministic: bool = True,
  ) -> Float[Array, 'B T K']:
    """Returns the logits of one level of all frames.

    Args:
      conditioning: Of each segment but the predicted one, in their order; what
        is below 0 is masked.
      codes: [B, T, Q], what is below 0 is masked.
      level: In [0, Q), one number or one per row; may be traced.
      deterministic: Whether dropout is off.
    """
    hidden = self.hidden(conditioning, codes, deterministic=deterministic)
    table = jnp.take(self.output, level, axis=0).astype(hidden.dtype)
    return jnp.einsum(
      'btd,kd->btk' if table.ndim == 2 else 'btd,bkd->btk',
      hidden,
      table,
      preferred_element_type=jnp.float32,
    )

  def hidden(
    self,
    conditioning: Sequence[Codes],
    codes: Codes,
    *,
    deterministic: bool = True,
  ) -> Latents:
    """Returns what the Transformer makes of each frame, [B, T, D]."""
    first, x = 0, jnp.tile(self.place, (codes.shape[1] // len(self.place), 1))
    streams = (*conditioning, codes)
    for segment, ratio, known in zip(
      self.layout.segments, self._ratios, streams, strict=True
    ):
      stride = segment.codebook_size + 1
      # The last embedding of a level is that of a masked code.
      ids = jnp.where(known < 0, segment.codebook_size, known)
      ids += first + stride * jnp.arange(segment.num_levels)
      added = jnp.take(self.embedding, ids, axis=0).sum(axis=2)
      x += jnp.repeat(added, ratio, axis=1)
      first += stride * segment.num_levels
    return self.transformer(x, deterministic=deterministic)[0]

  @property
  def _ratios(self) -> list[int]:
    """Predicted frames to each frame of a segment; 1 outside of time."""
    frames = self.layout.predicted.num_frames
    return [
      frames // segment.num_frames if segment.frame_rate else 1
      for segment in self.layout.segments
    ]


def _scales(levels: int, codebook_size: int) -> np.ndarray:
  """By which a sum over levels varies as much as a single embedding."""
  return np.full(levels * (codebook_size + 1), levels**-0.5, np.float32)


def _scaled_normal(scales: np.ndarray) -> Callable[..., Array]:
  """An initializer of rows that vary by a scale of their own."""
  return lambda rng, shape: scales[:, None] * jax.random.normal(rng, shape)


def make_parallel_lm(
  layout: Layout,
  *,
  relative_buckets: int = 0,
  relative_max_distance: int | None = None,
  embedding_scale: float = 1.0,
  **transformer,
) -> ParallelLM:
  """Builds a parallel LM from the flat arguments of a config.

  Args:
    layout: Of the stage.
    relative_buckets: See `Transformer`.
    relative_max_distance: See `Transformer`, in frames. None is the crop.
    embedding_scale: See `ParallelLM`.
    **transformer: Arguments of `Transformer`; it is bidirectional.
  """
  if relative_max_distance is None:
    # In a short crop every distance has a bucket of its own.
    frames = layout.predicted.num_frames
    relative_max_distance = max(frames, relative_buckets // 4 + 1)
  return ParallelLM(
    layout=layout,
    transformer=Transformer(
      causal=False,
      relative_buckets=relative_buckets,
      relative_max_distance=relative_max_distance,
      **transformer,
    ),
    embedding_scale=embedding_scale,
  )
