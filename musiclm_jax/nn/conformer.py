"""Conformer blocks (Gulati et al., 2020): [B, T, D] -> [B, T, D].

x + half a feed-forward, x + relative attention, x + convolution, x + half a
feed-forward, LayerNorm. The blocks see both directions.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.blockwise_attention import MASKED
from musiclm_jax.nn.dropout import Dropout
from musiclm_jax.nn.einsum import Einsum, parameter
from musiclm_jax.nn.transformer import MLP, REMATS

_EPSILON = 1e-5
_layer_norm = functools.partial(nn.LayerNorm, epsilon=_EPSILON)


def relative_positions(length: int, dim: int) -> np.ndarray:
  """Makes sinusoids of the distances length - 1 ... -(length - 1).

  Distance is query minus key, so that row 0 looks furthest back
  (Transformer-XL, Dai et al., 2019, appendix B).

  Returns:
    Float32 [2 * length - 1, dim], sines and cosines interleaved.
  """
  distance = np.arange(length - 1, -length, -1, dtype=np.float64)[:, None]
  phase = distance * np.exp(np.arange(0, dim, 2) * (-np.log(10_000.0) / dim))
  table = np.stack([np.sin(phase), np.cos(phase)], axis=-1)
  return table.reshape(2 * length - 1, -1)[:, :dim].astype(np.float32)


def shift_to_keys(scores: Array) -> Array:
  """Turns scores by distance [.., T, 2T - 1] into scores by key [.., T, T].

  Row q of the input holds distances T - 1 ... -(T - 1); entry k of the output
  row is the one of distance q - k.
  """
  *lead, length, width = scores.shape
  padded = jnp.pad(scores, [(0, 0)] * (len(lead) + 1) + [(1, 0)])
  turned = padded.reshape(*lead, width + 1, length)[..., 1:, :]
  return turned.reshape(*lead, length, width)[..., :length]


def shift_to_neighbours(scores: Array) -> Array:
  """Turns scores by distance [.., w, 2w + 1] into scores by key [.., w, 3w].

  Row q of the input holds distances w ... -w. The keys are those of a block of
  w, of the block before and of the one after: entry k of the output row is the
  one of distance w + q - k, and 0 where that is further than w.
  """
  *lead, window, width = scores.shape
  padded = jnp.pad(scores, [(0, 0)] * (len(lead) + 1) + [(0, window)])
  # A row is one longer than what it becomes, so each begins one key later.
  flat = padded.reshape(*lead, window * (width + window))
  return flat[..., :-window].reshape(*lead, window, 3 * window)


def attend_to_all(
  by_content: Array,
  by_position: Array,
  key: Array,
  value: Array,
  position: Array,
) -> Array:
  """Attends from every frame to every frame.

  Args:
    by_content: Queries that meet keys, q + u, [B, T, H, head_dim].
    by_position: Queries that meet positions, q + v, likewise.
    key: As the queries.
    value: As the queries.
    position: W r of the distances T - 1 ... -(T - 1), [2T - 1, H, head_dim].

  Returns:
    As `value`.
  """
  logits = jnp.einsum('bqhd,bkhd->bhqk', by_content, key)
  logits += shift_to_keys(jnp.einsum('bqhd,phd->bhqp', by_position, position))
  logits = logits.astype(jnp.float32) * key.shape[-1] ** -0.5
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.einsum('bhqk,bkhd->bqhd', weights, value)


def attend_to_neighbours(
  by_content: Array,
  by_position: Array,
  key: Array,
  value: Array,
  position: Array,
) -> Array:
  """Attends to the frames at most w away, before and after, and to no others.

  The same as `attend_to_all` with all other keys masked, in time and memory
  linear in T: each block of w queries meets the 3w keys of its own block and
  of the two beside it. `blockwise_attention` cannot do that: what it adds to
  the logits depends on the distance, not on the query, as positions do here.

  Args:
    by_content: As in `attend_to_all`.
    by_position: As in `attend_to_all`.
    key: As in `attend_to_all`.
    value: As in `attend_to_all`.
    position: W r of the distances w ... -w, [2w + 1, H, head_dim].

  Returns:
    As `value`.
  """
  batch, length, *head = key.shape
  window = len(position) // 2
  count = -(-length // window)
  extra = count * window - length

  def blocks(x, before, after):
    x = jnp.pad(x, ((0, 0), (before, extra + after), (0, 0), (0, 0)))
    return x.reshape(batch, -1, window, *head)

  def neighbours(x):
    x = blocks(x, window, window)
    parts = [x[:, first : first + count] for first in range(3)]
    return jnp.concatenate(parts, axis=2)

  by_content, by_position = blocks(by_content, 0, 0), blocks(by_position, 0, 0)
  logits = jnp.einsum('bnqhd,bnkhd->bnhqk', by_content, neighbours(key))
  logits += shift_to_neighbours(
    jnp.einsum('bnqhd,phd->bnhqp', by_position, position)
  )
  logits = logits.astype(jnp.float32) * key.shape[-1] ** -0.5
  keys = np.arange(3 * window) - window  # counted from the block's first query
  near = np.abs(np.arange(window)[:, None] - keys) <= window
  place = window * np.arange(count)[:, None] + keys
  inside = (place >= 0) & (place < length)
  allowed = near & inside[:, None, None]  # [blocks, 1, queries, keys]
  weights = jax.nn.softmax(jnp.where(allowed, logits, MASKED), axis=-1)
  y = jnp.einsum(
    'bnhqk,bnkhd->bnqhd', weights.astype(value.dtype), neighbours(value)
  )
  return y.reshape(batch, -1, *head)[:, :length]


class RelativeAttention(nn.Module):
  """Self-attention with Transformer-XL's relative positions.

  The logit of query q and key k is ((q + u)·k + (q + v)·W r[q - k]) / √d.

  Attributes:
    num_heads: H; D must be a multiple of it.
    dtype: Compute type; softmax is float32.
    window: Frames that a frame sees before and after it; None: all.
  """

  num_heads: int
  dtype: jnp.dtype = jnp.float32
  window: int | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Attends from every frame to every frame, or to those of its window."""
    length, dim = x.shape[1:]
    head_dim = dim // self.num_heads
    furthest = length - 1
    attend = attend_to_all
    if self.window is not None and self.window < furthest:
      furthest, attend = self.window, attend_to_neighbours
    project = functools.partial(
      Einsum,
      shape=(dim, self.num_heads, head_dim),
      axes=('embed', 'heads', 'head_dim'),
      dtype=self.dtype,
    )
    query, key, value = (
      project('btd,dhk->bthk', use_bias=True, name=name)(x)
      for name in ('query', 'key', 'value')
    )
    table = jnp.asarray(relative_positions(furthest + 1, dim))
    position = project('pd,dhk->phk', name='position')(table)
    content_bias, position_bias = (
      parameter(
        self,
        name,
        nn.initializers.zeros_init(),
        (self.num_heads, head_dim),
        ('heads', 'head_dim'),
        self.dtype,
      )
      for name in ('content_bias', 'position_bias')
    )
    y = attend(
      query + content_bias, query + position_bias, key, value, position
    )
    return Einsum(
      'bthk,hkd->btd',
      (self.num_heads, head_dim, dim),
      ('heads', 'head_dim', 'embed'),
      num_inputs=2,
      use_bias=True,
      dtype=self.dtype,
      name='out',
    )(y)


class FeedForward(MLP):
  """LayerNorm, D -> mlp_dim, Swish, mlp_dim -> D."""

  gated: bool = False
  activation: str = 'swish'
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
    """Returns [B, T, D], to be halved and added by the caller."""
    y = _layer_norm(dtype=self.dtype, name='norm')(x)
    return super().__call__(y, deterministic=deterministic)


# Norm after the depthwise convolution. `batch` is the paper's and takes its
# statistics over the global batch; below batch 64 they are too noisy.
CONV_NORMS = {
  'batch': functools.partial(nn.BatchNorm, momentum=0.99, epsilon=_EPSILON),
  'layer': lambda use_running_average, **options: _layer_norm(**options),
}


class ConvModule(nn.Module):
  """LayerNorm, pointwise + GLU, depthwise, norm, Swish, pointwise.

  Attributes:
    kernel_size: Of the depthwise convolution, odd; padded on both sides.
    conv_norm: Name in `CONV_NORMS`.
    dtype: Compute type.
  """

  kernel_size: int
  conv_norm: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: Array, deterministic: bool) -> Array:
    """Returns [B, T, D], to be added by the caller."""
    dim = x.shape[-1]
    y = _layer_norm(dtype=self.dtype, name='norm')(x)
    y = Einsum(
      'btd,dgf->btgf',
      (dim, 2, dim),
      ('embed', None, 'mlp'),
      dtype=self.dtype,
      name='wide',
    )(y)
    y = y[..., 0, :] * nn.sigmoid(y[..., 1, :])
    kernel = parameter(
      self,
      'depthwise',
      nn.initializers.lecun_normal(),
      (self.kernel_size, dim),
      (None, 'mlp'),
      self.dtype,
    )
    # A sum of shifted products: for short kernels quicker than a grouped
    # convolution, forward and backward, on every backend.
    half = self.kernel_size // 2
    padded = jnp.pad(y, [(0, 0), (half, half), (0, 0)])
    y = sum(
      padded[:, tap : tap + x.shape[1]] * kernel[tap]
      for tap in range(self.kernel_size)
    )
    norm = look_up(CONV_NORMS, self.conv_norm, 'conv_norm')(
      use_running_average=deterministic, dtype=self.dtype, name='conv_norm'
    )
    return Einsum(
      'btf,fd->btd',
      (dim, dim),
      ('mlp', 'embed'),
      dtype=self.dtype,
      name='narrow',
    )(nn.swish(norm(y)))


class ConformerBlock(nn.Module):
  """One Conformer block; attributes are those of `Conformer`."""

  num_heads: int
  mlp_dim: int
  kernel_size: int
  conv_norm: str
  dropout_rate: float
  dtype: jnp.dtype
  attention_frames: int | None
  deterministic: bool

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, None]:
    """Returns ([B, T, D], None), the form that scan wants."""
    drop = Dropout(self.dropout_rate, deterministic=self.deterministic)

    def half_a_feed_forward(x, name):
      layer = FeedForward(
        self.mlp_dim,
        dropout_rate=self.dropout_rate,
        dtype=self.dtype,
        name=name,
      )
      return x + 0.5 * drop(layer(x, deterministic=self.deterministic))

    x = half_a_feed_forward(x, 'feed_forward_1')
    y = _layer_norm(dtype=self.dtype, name='attention_norm')(x)
    attention = RelativeAttention(
      self.num_heads, self.dtype, self.attention_frames, name='attention'
    )
    x = x + drop(attention(y))
    conv = ConvModule(self.kernel_size, self.conv_norm, self.dtype, name='conv')
    x = x + drop(conv(x, self.deterministic))
    x = half_a_feed_forward(x, 'feed_forward_2')
    return _layer_norm(dtype=self.dtype, name='final_norm')(x), None


class Conformer(nn.Module):
  """Stacks Conformer blocks with `nn.scan`; parameters are stacked [L, ...].

  Attributes:
    num_layers: Blocks, L.
    num_heads: H; D must be a multiple of it.
    mlp_dim: Inner width of both feed-forwards.
    kernel_size: Of the depthwise convolution, odd.
    conv_norm: Name in `CONV_NORMS`; `batch` keeps running statistics in the
      collection `batch_stats`.
    dropout_rate: After each sublayer and inside feed-forwards.
    dtype: Compute type.
    remat: Name in `REMATS`: what the backward pass computes again.
    scan_unroll: Blocks per iteration of the scan.
    attention_frames: Frames that a frame attends to before and after it, 1 or
      more; None: all.
  """

  num_layers: int
  num_heads: int
  mlp_dim: int
  kernel_size: int = 5
  conv_norm: str = 'layer'
  dropout_rate: float = 0.0
  dtype: jnp.dtype = jnp.float32
  remat: str = 'none'
  scan_unroll: int = 1
  attention_frames: int | None = None

  @nn.compact
  def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
    """Returns [B, T, D].

    Raises:
      UsageError: If D is not a multiple of H or the kernel size is even.
    """
    if x.shape[-1] % self.num_heads or self.kernel_size % 2 == 0:
      raise UsageError(
        f'expected a width that {self.num_heads} heads divide and an odd '
        f'kernel, got {x.shape[-1]} and {self.kernel_size}'
      )
    block = nn.scan(
      look_up(REMATS, self.remat, 'remat')(ConformerBlock),
      variable_axes={'params': 0, 'batch_stats': 0},
      split_rngs={'params': True, 'dropout': True},
      length=self.num_layers,
      unroll=self.scan_unroll,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )(
      self.num_heads,
      self.mlp_dim,
      self.kernel_size,
      self.conv_norm,
      self.dropout_rate,
      self.dtype,
      self.attention_frames,
      deterministic,
      name='blocks',
    )
    return block(x.astype(self.dtype))[0]
