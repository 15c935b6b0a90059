"""The one Transformer: token LMs and towers, [B, T, D] -> [B, T, D].

Its defaults are T5 v1.1's decoder block without cross-attention: RMSNorm
before each sublayer, no biases, gated GELU, unscaled logits. Other settings
make BERT (post-norm) and ViT.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.nn.attention import Attention, Cache
from musiclm_jax.nn.blockwise_attention import KEPT
from musiclm_jax.nn.dropout import Dropout
from musiclm_jax.nn.einsum import Einsum, parameter
from musiclm_jax.nn.relative_bias import RelativeBias, RowBias


class RMSNorm(nn.Module):
  """Divides by the root mean square and scales; no mean, no bias (T5).

  Attributes:
    epsilon: Added to the mean square.
    dtype: Of the result; statistics are float32.
  """

  epsilon: float = 1e-6
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Returns the normalised `x`, same shape."""
    scale = self.param('scale', nn.initializers.ones_init(), x.shape[-1:])
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(x * x, axis=-1, keepdims=True)
    return (x * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(
      self.dtype
    )


# Both are called as `NORMS[name](epsilon=…, dtype=…)`.
NORMS = {'rms': RMSNorm, 'layer': nn.LayerNorm}
_LAYERS = 'layers'
ACTIVATIONS = {
  'gelu_tanh': functools.partial(nn.gelu, approximate=True),
  'gelu': functools.partial(nn.gelu, approximate=False),
  'swish': nn.swish,
}
REMATS = {
  'none': lambda block: block,
  'elementwise': functools.partial(
    nn.remat,
    prevent_cse=False,
    policy=jax.checkpoint_policies.save_from_both_policies(
      jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
      jax.checkpoint_policies.save_only_these_names(*KEPT),
    ),
  ),
  'full': functools.partial(nn.remat, prevent_cse=False),
}


class MLP(nn.Module):
  """Maps each position by itself: D -> mlp_dim -> D.

  Attributes:
    mlp_dim: Inner width.
    gated: Whether a second, linear projection multiplies the activation.
    activation: Name in `ACTIVATIONS`.
    use_bias: Whether projections have biases.
    dropout_rate: Inside, after the activation.
    dtype: Compute type.
  """

  mlp_dim: int
  gated: bool = True
  activation: str = 'gelu_tanh'
  use_bias: bool = False
  dropout_rate: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Array, *, deterministic: bool = True) -> Array:
    """Returns [B, T, D]."""
    dim = x.shape[-1]
    widen = functools.partial(
      Einsum,
      'btd,df->btf',
      (dim, self.mlp_dim),
      ('embed', 'mlp'),
      use_bias=self.use_bias,
      dtype=self.dtype,
    )
    y = ACTIVATIONS[self.activation](widen(name='wide')(x))
    if self.gated:
      y = y * widen(name='gate')(x)
    y = Dropout(self.dropout_rate, deterministic=deterministic)(y)
    return Einsum(
      'btf,fd->btd',
      (self.mlp_dim, dim),
      ('mlp', 'embed'),
      use_bias=self.use_bias,
      dtype=self.dtype,
      name='narrow',
    )(y)


class _Layer(nn.Module):
  """What a Transformer and each of its blocks are made with."""

  num_heads: int
  head_dim: int
  mlp_dim: int
  dropout_rate: float = 0.0
  norm: str = 'rms'
  norm_first: bool = True
  norm_epsilon: float = 1e-6
  use_bias: bool = False
  gated: bool = True
  activation: str = 'gelu_tanh'
  scale_logits: bool = False
  causal: bool = False
  attention_kernel: str = 'blockwise'
  dtype: jnp.dtype = jnp.float32


class Block(_Layer, kw_only=True):
  """One layer: self-attention and MLP, each with its norm and residual.

  Attributes are those of `Transformer`; `deterministic` is its call's argument,
  a field here because it is static under scan and remat.
  """

  deterministic: bool

  @nn.compact
  def __call__(
    self,
    carry: tuple[Array, Cache | None],
    layer: Array,
    bias_row: Array | None,
    row_bias: RowBias | None,
    mask: Array | None,
  ) -> tuple[tuple[Array, Cache | None], None]:
    """Returns the new carry in the form that scan wants.

    Args:
      carry: The sequence [B, T, D] and the cache of all layers.
      layer: int32 scalar, which layer this is.
      bias_row: See `Attention`.
      row_bias: See `Attention`.
      mask: See `Attention`.
    """
    x, cache = carry
    drop = Dropout(self.dropout_rate, deterministic=self.deterministic)
    norm = functools.partial(
      NORMS[self.norm], epsilon=self.norm_epsilon, dtype=self.dtype
    )
    attention = Attention(
      self.num_heads,
      self.head_dim,
      use_bias=self.use_bias,
      scale_logits=self.scale_logits,
      causal=self.causal,
      kernel=self.attention_kernel,
      dtype=self.dtype,
      name='attention',
    )
    mlp = MLP(
      self.mlp_dim,
      self.gated,
      self.activation,
      self.use_bias,
      self.dropout_rate,
      self.dtype,
      name='mlp',
    )
    y = norm(name='attention_norm')(x) if self.norm_first else x
    y, cache = attention(
      y,
      bias_row=bias_row,
      row_bias=row_bias,
      mask=mask,
      cache=cache,
      layer=layer,
    )
    x = x + drop(y)
    if not self.norm_first:
      x = norm(name='attention_norm')(x)
    y = norm(name='mlp_norm')(x) if self.norm_first else x
    x = x + drop(mlp(y, deterministic=self.deterministic))
    if not self.norm_first:
      x = norm(name='mlp_norm')(x)
    return (x, cache), None


class Transformer(_Layer, kw_only=True):
  """Stacks blocks with `nn.scan`; parameters of all layers are stacked.

  Given those of `unstack` it runs them one by one.

  Dropout is at T5 v1.1's places: the input, after each sublayer, inside the
  MLP, after the final norm.

  Attributes:
    num_layers: Blocks.
    embed_dim: D.
    num_heads: H.
    head_dim: Width of a head; H * head_dim need not be D.
    mlp_dim: Inner width of the MLP (of each of two kernels where gated).
    dropout_rate: Of all dropout.
    norm: Name in `NORMS`.
    norm_first: Pre-norm (T5, ViT) or post-norm (BERT).
    norm_epsilon: Of all norms.
    final_norm: Whether a norm follows the last block.
    use_bias: Whether projections have biases.
    gated: Whether the MLP is gated.
    activation: Name in `ACTIVATIONS`.
    scale_logits: Divide logits by sqrt(head_dim) (BERT) or the initial query
      kernel (T5).
    causal: Whether keys after the query are hidden.
    relative_buckets: Buckets of the relative bias, one table for all layers;
      0 leaves it out.
    relative_max_distance: Of the buckets, in tokens.
    relative_gain: See `RelativeBias`; 1.0 is T5.
    attention_kernel: Name in `attention.KERNELS`: what computes attention
      without a cache.
    scan_unroll: Layers per iteration of the scan; more compile longer and
      run faster on CPU.
    dtype: Compute type; parameters are float32.
    remat: Name in `REMATS`: what the backward pass recomputes.
  """

  num_layers: int
  embed_dim: int
  final_norm: bool = True
  relative_buckets: int = 0
  relative_max_distance: int = 0
  relative_gain: float = 1.0
  scan_unroll: int = 1
  remat: str = 'none'

  def empty_cache(self, batch_size: int, capacity: int) -> Cache:
    """Makes a cache for `capacity` tokens a row, with none in it."""
    shape = (self.num_layers, batch_size, self.num_heads, capacity)
    store = jnp.zeros((*shape, self.head_dim), self.dtype)
    return Cache(keys=store, values=store, length=jnp.int32(0))

  @nn.compact
  def __call__(
    self,
    x: Array,
    *,
    mask: Array | None = None,
    row_bias: RowBias | None = None,
    cache: Cache | tuple[Cache, ...] | None = None,
    deterministic: bool = True,
  ) -> tuple[Array, Cache | tuple[Cache, ...] | None]:
    """Transforms a sequence, or the continuation of a cached one.

    Args:
      x: [B, T, D].
      mask: [B, T] bool, False at padding: padding is never attended to, its
        own results mean nothing. Not with a cache.
      row_bias: Added to the logits of all layers beside the relative bias;
        its `rows` are those of `x`.
      cache: What earlier tokens left (`empty_cache` at first); only for a
        causal Transformer. Rows advance together. With the parameters of
        `unstack` it is a tuple, a cache of each layer.
      deterministic: Whether dropout is off.

    Returns:
      [B, T, D] and the cache with T more tokens (None without a cache).
    """
    if cache is not None and (mask is not None or not self.causal):
      raise ValueError('a cache is for causal Transformers without a mask')
    x = x.astype(self.dtype)
    if mask is not None:  # whatever the padding holds, NaN included
      x = jnp.where(mask[..., None], x, 0)
    drop = Dropout(self.dropout_rate, deterministic=deterministic)
    x = drop(x)
    one_by_one = self.has_variable('params', _layer_name(0))
    caches = cache if one_by_one and cache is not None else (cache,)
    bias_row = None
    if self.relative_buckets:
      bias_row = RelativeBias(
        self.num_heads,
        self.relative_buckets,
        self.relative_max_distance,
        bidirectional=not self.causal,
        gain=self.relative_gain,
        name='relative_bias',
      )(x.shape[1] if cache is None else caches[0].keys.shape[3])
    if one_by_one:
      x, cache = self._one_by_one(
        x, cache, bias_row, row_bias, mask, deterministic
      )
    else:
      (x, cache), _ = self._blocks(deterministic)(
        (x, cache), jnp.arange(self.num_layers), bias_row, row_bias, mask
      )
    if cache is not None:
      length = caches[0].length + x.shape[1]
      cache = jax.tree.map(
        lambda part: part.replace(length=length),
        cache,
        is_leaf=lambda part: isinstance(part, Cache),
      )
    if self.final_norm:
      x = NORMS[self.norm](
        epsilon=self.norm_epsilon, dtype=self.dtype, name='final_norm'
      )(x)
      x = drop(x)
    return x, cache

  def _one_by_one(
    self,
    x: Array,
    caches: tuple[Cache, ...] | None,
    bias_row: Array | None,
    row_bias: RowBias | None,
    mask: Array | None,
    deterministic: bool,
  ) -> tuple[Array, tuple[Cache, ...] | None]:
    """Runs blocks that have parameters, and caches, of their own."""
    used = []
    for layer in range(self.num_layers):
      block = Block(
        **self._fields(), deterministic=deterministic, name=_layer_name(layer)
      )
      cache = caches[layer] if caches else None
      (x, cache), _ = block((x, cache), 0, bias_row, row_bias, mask)
      used.append(cache)
    return x, tuple(used) if caches else None

  def _blocks(self, deterministic: bool) -> nn.Module:
    """The stack of blocks, to be called on (carry, layers, bias, mask)."""
    stack = nn.scan(
      look_up(REMATS, self.remat, 'remat')(Block),
      variable_axes={'params': 0},
      split_rngs={'params': True, 'dropout': True},
      in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
      length=self.num_layers,
      unroll=self.scan_unroll,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )
    return stack(**self._fields(), deterministic=deterministic, name=_LAYERS)

  def _fields(self) -> dict[str, Any]:
    """What each block is made with."""
    return {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(_Layer)
      if field.name not in ('parent', 'name')
    }


def unstack(
  params: PyTree, take: Callable[[Any, int], Any] = operator.getitem
) -> PyTree:
  """Gives each layer of a Transformer parameters of its own.

  With these it runs layer by layer, which decoding wants: a loop over layers
  copies the cache and the layer's weights at every token.

  Args:
    params: Of a Transformer, the layers stacked.
    take: Tells a layer's own part of a stacked leaf.
  """
  rest = {name: value for name, value in params.items() if name != _LAYERS}
  stacked = params[_LAYERS]
  count = jax.tree.leaves(stacked)[0].shape[0]
  layers = {
    _layer_name(k): jax.tree.map(lambda leaf, k=k: take(leaf, k), stacked)
    for k in range(count)
  }
  return {**rest, **layers}


def _layer_name(layer: int) -> str:
  return f'{_LAYERS}_{layer}'


class Tower(nn.Module):
  """What towers on a Transformer share: LayerNorm, biases, exact GELU.

  Attributes:
    num_layers: Blocks, pre-norm unless `transform` is told otherwise.
    embed_dim: Width.
    num_heads: Of width embed_dim / num_heads each, unless `head_dim` is given.
    mlp_dim: Inner width of the MLPs.
    dropout_rate: Of all dropout.
    dtype: Compute type; parameters are float32.
    remat: What the backward pass recomputes, see `REMATS`.
    scan_unroll: Layers per iteration of the loop over layers.
  """

  num_layers: int = 12
  embed_dim: int = 768
  num_heads: int = 12
  mlp_dim: int = 3072
  dropout_rate: float = 0.0
  dtype: jnp.dtype | str = jnp.float32
  remat: str = 'none'
  scan_unroll: int = 1

  @property
  def features(self) -> int:
    """Width of the result, D."""
    return self.embed_dim

  def table(self, name: str, rows: int, axis: str | None = None) -> Array:
    """Makes or reads embeddings [rows, embed_dim], the rows along an axis."""
    init = nn.initializers.truncated_normal(0.02)
    shape = rows, self.embed_dim
    return parameter(self, name, init, shape, (axis, 'embed'))

  def transform(
    self,
    x: Array,
    *,
    training: bool,
    head_dim: int | None = None,
    mask: Array | None = None,
    **options: Any,
  ) -> Array:
    """Returns what the Transformer makes of [B, T, embed_dim], float32.

    Args:
      x: What goes in.
      training: Whether dropout is on.
      head_dim: Width of a head.
      mask: See `Transformer`.
      **options: Of `Transformer`, where a tower differs.
    """
    x, _ = Transformer(
      num_layers=self.num_layers,
      embed_dim=self.embed_dim,
      num_heads=self.num_heads,
      head_dim=head_dim or self.embed_dim // self.num_heads,
      mlp_dim=self.mlp_dim,
      dropout_rate=self.dropout_rate,
      norm='layer',
      use_bias=True,
      gated=False,
      activation='gelu',
      scale_logits=True,
      dtype=self.dtype,
      remat=self.remat,
      scan_unroll=self.scan_unroll,
      name='transformer',
      **options,
    )(x, mask=mask, deterministic=not training)
    return x.astype(jnp.float32)
