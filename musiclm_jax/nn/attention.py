"""Self-attention with relative biases: [B, T, D] -> [B, T, D].

Without a cache one of `KERNELS` attends: ours in blocks, in memory linear in
the length, or cuDNN's on NVIDIA GPUs.
"""

import functools
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.blockwise_attention import MASKED, blockwise_attention
from musiclm_jax.nn.einsum import Einsum
from musiclm_jax.nn.relative_bias import RowBias, toeplitz

_MULTIPLE = 8  # of tokens; cuDNN takes no odd number beside a bias
CAUSAL_INPUT, CAUSAL_OUTPUT = 'causal_input', 'causal_output'


@flax.struct.dataclass
class Cache:
  """Keys and values of the tokens seen so far, all layers stacked.

  Attributes:
    keys: [layers, B, H, S, head_dim] with S the capacity.
    values: As keys.
    length: int32 scalar, tokens seen; the same for every row.
  """

  keys: Array
  values: Array
  length: Array

  def split(self, capacity: int) -> tuple['Cache', ...]:
    """Caches of one layer each, cut to a capacity.

    A loop whose state they are writes into them in place and reads them where
    they are; of a stacked one it would copy a layer at every token.
    """
    return tuple(
      Cache(
        self.keys[layer : layer + 1, :, :, :capacity],
        self.values[layer : layer + 1, :, :, :capacity],
        self.length,
      )
      for layer in range(len(self.keys))
    )

  def joined(self, caches: tuple['Cache', ...]) -> 'Cache':
    """This cache with what the parts of `split` have become."""

    def put(store: Array, parts: list[Array]) -> Array:
      new = jnp.concatenate(parts)
      return jax.lax.dynamic_update_slice(store, new, (0,) * store.ndim)

    return Cache(
      put(self.keys, [cache.keys for cache in caches]),
      put(self.values, [cache.values for cache in caches]),
      caches[0].length,
    )


def cudnn_attention(
  query: Array,
  key: Array,
  value: Array,
  *,
  bias_row: Array | None = None,
  row_bias: RowBias | None = None,
  mask: Array | None = None,
  causal: bool,
  implementation: str = 'cudnn',
) -> Array:
  """Computes softmax(q k + bias) v by cuDNN's fused kernel.

  The kernel wants its bias as a matrix, [H, T, T] in the type of the operands,
  once a layer and shared by the batch: memory is quadratic in T.

  Args:
    query: [B, H, T, head_dim], bfloat16 where cuDNN computes it.
    key: As query.
    value: As query.
    bias_row: [H, 2T - 1] by falling distance, or None.
    row_bias: Another bias, or None.
    mask: [B, T] bool, False at padding keys, or None.
    causal: Whether keys after the query are hidden.
    implementation: Of `jax.nn.dot_product_attention`; 'xla' is the same
      formula on every device.

  Returns:
    [B, H, T, head_dim] in the dtype of `value`.

  Raises:
    UsageError: If cuDNN cannot: no NVIDIA GPU, or not these operands.
  """
  length = query.shape[2]
  extra = -length % _MULTIPLE
  biases = [] if bias_row is None else [toeplitz(bias_row, length)]
  if row_bias is not None:
    biases.append(row_bias.matrix(length))
  bias = None
  if biases:
    bias = jnp.pad(sum(biases), ((0, 0), (0, extra), (0, extra)))
    bias = bias[None].astype(query.dtype)
  if mask is None and extra and not causal:
    mask = jnp.ones((1, length), bool)
  if mask is not None:
    mask = jnp.pad(mask, ((0, 0), (0, extra)))[:, None, None]
  query, key, value = (
    jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, extra), (0, 0), (0, 0)))
    for x in (query, key, value)
  )
  try:
    y = jax.nn.dot_product_attention(
      query,
      key,
      value,
      bias=bias,
      mask=mask,
      scale=1.0,
      is_causal=causal,
      implementation=implementation,
    )
  except (NotImplementedError, RuntimeError) as error:
    raise UsageError(
      "model.attention_kernel='cudnn' needs an NVIDIA GPU and dtype bfloat16; "
      f"here is {query.dtype} on {jax.default_backend()}: use 'blockwise', or "
      f'see what JAX says: {error}'
    ) from error
  return y[:, :length].swapaxes(1, 2)


KERNELS = {'blockwise': blockwise_attention, 'cudnn': cudnn_attention}


def attend(
  query: Array,
  key: Array,
  value: Array,
  *,
  causal: bool,
  kernel: str,
  **options: Any,
) -> Array:
  """Calls one of `KERNELS`; in and out of causal ones bear names.

  By them `training.flops` counts the legal pairs, whatever happens
  between the two. Where there is no NVIDIA GPU, cuDNN's place is taken by the
  blockwise kernel: what was trained with the one is the same with the other.
  """
  if kernel == 'cudnn' and jax.default_backend() != 'gpu':
    kernel = 'blockwise'
  kernel = look_up(KERNELS, kernel, 'attention_kernel')
  if not causal:
    return kernel(query, key, value, causal=False, **options)
  query, key, value = (
    checkpoint_name(x, CAUSAL_INPUT) for x in (query, key, value)
  )
  y = kernel(query, key, value, causal=True, **options)
  return checkpoint_name(y, CAUSAL_OUTPUT)


class Attention(nn.Module):
  """Multi-head self-attention.

  With T5's convention the logits are not scaled; the initial query kernel is
  divided by sqrt(head_dim) instead. `scale_logits` is BERT's convention.

  Attributes:
    num_heads: H.
    head_dim: Width of a head.
    use_bias: Whether projections have biases.
    scale_logits: Whether logits are divided by sqrt(head_dim).
    causal: Whether keys after the query are hidden.
    kernel: Name in `KERNELS`: what computes it without a cache.
    dtype: Compute type.
  """

  num_heads: int
  head_dim: int
  use_bias: bool = False
  scale_logits: bool = False
  causal: bool = False
  kernel: str = 'blockwise'
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Array,
    *,
    bias_row: Array | None = None,
    row_bias: RowBias | None = None,
    mask: Array | None = None,
    cache: Cache | None = None,
    layer: Array | int = 0,
  ) -> tuple[Array, Cache | None]:
    """Returns the attended sequence and the cache with this layer's tokens.

    Args:
      x: [B, T, D].
      bias_row: [H, 2S - 1] by falling distance (S = T or the capacity).
      row_bias: Another bias, its `rows` those of `x`.
      mask: [B, T] bool, False at padding; only without a cache.
      cache: What earlier tokens left; `x` continues it.
      layer: Which layer of the cache is ours.
    """
    shape = (x.shape[-1], self.num_heads, self.head_dim)
    axes = ('embed', 'heads', 'head_dim')
    # T5: what other models divide the logits by is in the initial kernel.
    gain = 1.0 if self.scale_logits else 1.0 / self.head_dim

    def project(name, gain):
      y = Einsum(
        'btd,dhk->bthk',
        shape,
        axes,
        use_bias=self.use_bias,
        kernel_init=nn.initializers.variance_scaling(
          gain, 'fan_in', 'truncated_normal', in_axis=0, out_axis=(1, 2)
        ),
        dtype=self.dtype,
        name=name,
      )(x)
      return y.swapaxes(1, 2)

    query = project('query', gain)
    key, value = project('key', 1.0), project('value', 1.0)
    if self.scale_logits:
      query = query / math.sqrt(self.head_dim)
    # A cache that this fills was empty.
    if cache is None or x.shape[1] == cache.keys.shape[3]:
      y = attend(
        query,
        key,
        value,
        bias_row=bias_row,
        row_bias=row_bias,
        mask=mask,
        causal=self.causal,
        kernel=self.kernel,
      )
    else:
      y = _attend_cache(query, key, value, cache, bias_row, row_bias, layer)
      # XLA orders a read and a write by what depends on what, or else copies
      # the whole cache at every token: what is written waits for what is read.
      waits = 0.0 * y[..., :1]
      key, value = key + waits, value + waits
    if cache is not None:
      cache = _append(cache, key, value, layer)
    y = Einsum(
      'bthk,hkd->btd',
      (self.num_heads, self.head_dim, x.shape[-1]),
      ('heads', 'head_dim', 'embed'),
      num_inputs=2,
      use_bias=self.use_bias,
      dtype=self.dtype,
      name='out',
    )(y.swapaxes(1, 2))
    return y, cache


def _append(
  cache: Cache, key: Array, value: Array, layer: Array | int
) -> Cache:
  """Writes [B, H, n, head_dim] behind the cache's tokens, in place."""

  def write(store, new):
    return jax.lax.dynamic_update_slice(
      store, new[None].astype(store.dtype), (layer, 0, 0, cache.length, 0)
    )

  return cache.replace(
    keys=write(cache.keys, key), values=write(cache.values, value)
  )


def _attend_cache(
  query: Array,
  key: Array,
  value: Array,
  cache: Cache,
  bias_row: Array | None,
  row_bias: RowBias | None,
  layer: Array | int,
) -> Array:
  """Attends from n new tokens to all in the cache, and to themselves.

  The cache is as it was before them: a loop that reads what it has just
  written is given copies by XLA.
  """
  num_new, capacity = query.shape[2], cache.keys.shape[3]
  keys, values = (
    jax.lax.dynamic_index_in_dim(store, layer, keepdims=False)
    for store in (cache.keys, cache.values)
  )
  product = functools.partial(
    jnp.einsum, 'bhnk,bhsk->bhns', preferred_element_type=jnp.float32
  )
  old, new = product(query, keys), product(query, key)
  if bias_row is not None:
    first = capacity - cache.length - num_new
    row = jax.lax.dynamic_slice_in_dim(
      bias_row, first, num_new + capacity - 1, axis=1
    )
    old += toeplitz(row, num_new)
    near = bias_row[:, capacity - num_new : capacity + num_new - 1]
    new += toeplitz(near, num_new)
  if row_bias is not None:
    rest = row_bias.matrix(capacity)
    old += rest
    new += jax.lax.dynamic_slice_in_dim(rest, cache.length, num_new, axis=-1)
  old = jnp.where(jnp.arange(capacity) < cache.length, old, MASKED)
  new = jnp.where(jnp.tri(num_new, dtype=bool), new, MASKED)
  weights = jax.nn.softmax(jnp.concatenate([old, new], axis=-1), axis=-1)
  weights = weights.astype(value.dtype)
  apply = functools.partial(jnp.einsum, 'bhns,bhsk->bhnk')
  known = apply(weights[..., :capacity], values.astype(value.dtype))
  return known + apply(weights[..., capacity:], value)
