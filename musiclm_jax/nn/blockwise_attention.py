"""Attention of a whole sequence in memory linear in its length.

[B, H, T, head_dim] x 3 -> [B, H, T, head_dim], exact: the logits are made in
square tiles, one at a time, under a running softmax (Rabe and Staats, 2021);
the backward pass makes them again from the saved logarithm of the softmax's
sum (Dao et al., 2022). Tiles are visited by diagonals: all tiles of one
diagonal have the same relative bias, which is laid out from its row once, and
the gradients of which are summed before they are laid back. A causal sweep
leaves out the diagonals above the main one.

With s = q·k + bias, running maximum m and running sum l of a row of queries,
a new tile of keys changes both, and what has been summed so far:

  m' = max(m, max_j s_j)         shrink = e^(m - m')
  l' = l shrink + Σ_j e^(s_j - m')
  y' = y shrink + Σ_j e^(s_j - m') v_j          in the end softmax(s) v = y / l

Backward, the weights are p = e^(s - (m + log l)) again, and
ds = p (dy·v - dy·y), dq = ds k, dk = dsᵀ q, dv = pᵀ dy, dbias = ds.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.nn.relative_bias import RowBias, toeplitz

BLOCK = 256  # side of the largest tile
MASKED = -1e9  # a finite minus infinity, added to what is hidden
# Where the running maximum begins: above what is hidden, so that e^(s - m) of
# hidden keys is 0 even where a query has seen no other, and below all else.
_FLOOR = MASKED / 2
_TINY = 1e-37  # the sum of a query that sees no key: 0 / _TINY is 0
KEPT = 'attention', 'attention_log_sum'  # residuals worth their memory


def blockwise_attention(
  query: Array,
  key: Array,
  value: Array,
  *,
  bias_row: Array | None = None,
  row_bias: RowBias | None = None,
  mask: Array | None = None,
  causal: bool,
  block: int = BLOCK,
) -> Array:
  """Computes softmax(q k + bias) v for every position of a sequence.

  Logits, softmax and sums are float32 whatever the type of the operands. A
  query that may see no key gets zeros. No forward-mode derivative.

  Args:
    query: [B, H, T, head_dim].
    key: [B, H, T, head_dim].
    value: As key.
    bias_row: [H, 2T - 1] by falling distance, or None.
    row_bias: Another bias, or None.
    mask: [B, T] bool, False at padding keys, or None.
    causal: Whether keys after the query are hidden.
    block: Side of the largest tile; tiles are as even as they can be.

  Returns:
    [B, H, T, head_dim] in the dtype of `value`.
  """
  length = query.shape[2]
  # As many tiles as the largest needs, then as small as so many can be: 257
  # positions are two tiles of 129, not 256 and 1.
  count = -(-length // block)
  tiles = _Tiles(count, -(-length // count), causal)
  extra = count * tiles.side - length
  # What fills up the last tile comes after all queries: a causal mask hides it.
  hidden = None
  if mask is not None or (extra and not causal):
    seen = jnp.ones((1, length), bool) if mask is None else mask
    hidden = jnp.where(_pad(seen, 1, extra), 0.0, MASKED)[:, None]
  if bias_row is not None:
    # Distance 0 stays in the middle of the row.
    bias_row = jnp.pad(bias_row, ((0, 0), (extra, extra)))
  table, rows = None, None
  if row_bias is not None:
    missing = count * tiles.side - row_bias.table.shape[2]
    table = _pad(row_bias.table, 2, missing)
    rows = _pad(row_bias.rows, 0, extra)
  query, key, value = (_pad(x, 2, extra) for x in (query, key, value))
  y = _attend(tiles, query, key, value, bias_row, table, rows, hidden)
  return y[:, :, :length]


def _pad(x: Array, axis: int, extra: int) -> Array:
  """Appends zeros, or cuts off what is too much."""
  if extra <= 0:
    return jax.lax.slice_in_dim(x, 0, x.shape[axis] + extra, axis=axis)
  widths = [(0, extra if i == axis else 0) for i in range(x.ndim)]
  return jnp.pad(x, widths)


class _Tile(NamedTuple):
  """Query and key block i and j, i - j, and if it begins or ends a diagonal."""

  diagonal: Array
  i: Array
  j: Array
  first: Array
  last: Array


@dataclasses.dataclass(frozen=True)
class _Tiles:
  """How [T, T] is cut into tiles.

  Attributes:
    count: Tiles in a row or column.
    side: Positions in a tile's row or column.
    causal: Whether tiles above the main diagonal are left out.
  """

  count: int
  side: int
  causal: bool

  def sweep(self, visit: Callable, carried: PyTree) -> PyTree:
    """Carries something through `visit(carried, tile)` for all tiles."""
    # Diagonal d holds the tiles with i - j = d: queries d tiles after keys.
    tiles = []
    for diagonal in range(0 if self.causal else 1 - self.count, self.count):
      keys = range(max(-diagonal, 0), self.count - max(diagonal, 0))
      tiles += [
        _Tile(diagonal, j + diagonal, j, j == keys[0], j == keys[-1])
        for j in keys
      ]
    if len(tiles) == 1:
      return visit(carried, tiles[0])
    # One loop over all tiles, whose places are data: a compiled loop body a
    # tile would grow with the square of the length.
    every = jax.tree.map(lambda *fields: jnp.array(fields), *tiles)
    return jax.lax.scan(
      lambda carried, tile: (visit(carried, tile), None), carried, every
    )[0]

  def take(self, x: Array, index: Array, axis: int = 2) -> Array:
    """Cuts one block out of an axis."""
    return jax.lax.dynamic_slice_in_dim(x, index * self.side, self.side, axis)

  def put(self, x: Array, part: Array, index: Array, axis: int = 2) -> Array:
    """Writes one block of an axis, in place."""
    return jax.lax.dynamic_update_slice_in_dim(x, part, index * self.side, axis)

  def add(self, x: Array, part: Array, index: Array, axis: int = 2) -> Array:
    """Adds to one block of an axis, in place."""
    return self.put(x, self.take(x, index, axis) + part, index, axis)

  def where(self, diagonal: Array) -> Array:
    """Where in the row the biases of a diagonal begin, 2 * side - 1 of them.

    The row falls from distance T - 1; a tile's largest is (d + 1) * side - 1.
    """
    return (self.count - 1 - diagonal) * self.side

  def bias(self, row, tile: _Tile, old: Array | None, lay_out) -> Array | None:
    """Bias and causal mask of a tile, that before's if of the same diagonal."""

    def make():
      bias = 0.0
      if row is not None:
        own = jax.lax.dynamic_slice_in_dim(
          row, self.where(tile.diagonal), 2 * self.side - 1, axis=1
        )
        bias = lay_out(own.astype(jnp.float32))
      if self.causal:
        # Query minus key; below 0 the key comes later. Only the tiles of the
        # main diagonal have such.
        distance = jnp.arange(self.side - 1, -self.side, -1)
        distance += tile.diagonal * self.side
        bias = bias + lay_out(jnp.where(distance < 0, MASKED, 0.0)[None])
      return bias

    return None if old is None else jax.lax.cond(tile.first, make, lambda: old)


def _by_query(row: Array) -> Array:
  """Lays [H, 2n - 1] by falling distance out as [H, queries, keys]."""
  return toeplitz(row, (row.shape[1] + 1) // 2)


def _by_key(row: Array) -> Array:
  """Lays [H, 2n - 1] by falling distance out as [H, keys, queries]."""
  return _by_query(row[:, ::-1])


def _add_diagonal(tiles, drow, dbias, tile):
  """Adds a diagonal's gradient to that of the row when it is complete."""

  def add():
    width = 2 * tiles.side - 1
    # Laying out is linear, so its transpose is its gradient: each diagonal of
    # the tile is summed.
    own = jax.ShapeDtypeStruct((dbias.shape[1], width), jnp.float32)
    lay_back = jax.linear_transpose(_by_key, own)
    part = jax.vmap(lambda one: lay_back(one)[0])(dbias)
    where = tiles.where(tile.diagonal)
    # Neighbouring diagonals of tiles share side - 1 distances.
    part += jax.lax.dynamic_slice_in_dim(drow, where, width, axis=2)
    return jax.lax.dynamic_update_slice_in_dim(drow, part, where, axis=2)

  return jax.lax.cond(tile.last, add, lambda: drow)


# Products of bfloat16 are summed in float32.
_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(tiles, query, key, value, row, table, rows, hidden):
  return _forward(tiles, query, key, value, row, table, rows, hidden)[0]


def _no_bias(tiles, row):
  """What the tile before the first has for a bias."""
  if row is None and not tiles.causal:
    return None
  heads = 1 if row is None else row.shape[0]
  return jnp.zeros((heads, tiles.side, tiles.side), jnp.float32)


def _forward(tiles, query, key, value, row, table, rows, hidden):
  """Returns the result and what the backward pass needs."""

  def visit(carried, tile):
    y, top, total, bias = carried
    i, j = tile.i, tile.j
    logits = _dot('bhnk,bhsk->bhns', tiles.take(query, i), tiles.take(key, j))
    bias = tiles.bias(row, tile, bias, _by_query)
    if bias is not None:
      logits += bias
    for term in _terms(tiles, table, rows, hidden, tile):
      logits += term
    # The running softmax of the docstring: `top` is m, `total` is l.
    old = tiles.take(top, i)
    new = jnp.maximum(old, logits.max(axis=3))
    weights, shrink = jnp.exp(logits - new[..., None]), jnp.exp(old - new)
    part = _dot(
      'bhns,bhsk->bhnk', weights.astype(value.dtype), tiles.take(value, j)
    )
    y = tiles.put(y, tiles.take(y, i) * shrink[..., None] + part, i)
    sums = tiles.take(total, i) * shrink + weights.sum(axis=3)
    total = tiles.put(total, sums, i)
    return y, tiles.put(top, new, i), total, bias

  start = (
    jnp.zeros(query.shape, jnp.float32),
    jnp.full(query.shape[:3], _FLOOR, jnp.float32),
    jnp.zeros(query.shape[:3], jnp.float32),
    _no_bias(tiles, row),
  )
  y, top, total, _ = tiles.sweep(visit, start)
  total = jnp.maximum(total, _TINY)
  y = (y / total[..., None]).astype(value.dtype)
  # Named, so that a remat's policy can keep them: the rest is made again.
  y, log_sum = map(checkpoint_name, (y, top + jnp.log(total)), KEPT)
  return y, (query, key, value, row, table, rows, hidden, y, log_sum)


def _terms(tiles, table, rows, hidden, tile):
  """What is added to a tile's logits beside its bias, queries by keys."""
  if table is not None:
    # [H, R, side of keys], of which each query takes its row.
    yield tiles.take(table, tile.j)[:, tiles.take(rows, tile.i, axis=0)]
  if hidden is not None:
    yield tiles.take(hidden, tile.j)[:, :, None]


def _backward(tiles, kept, dy):
  """The gradients; logits and weights are laid out keys by queries."""
  query, key, value, row, table, rows, hidden, y, log_sum = kept
  # What the softmax subtracts: the mean of its gradient under the weights,
  # Σ_j p_j dy·v_j, which is dy·y.
  mean = jnp.sum(dy.astype(jnp.float32) * y.astype(jnp.float32), axis=-1)
  # Turning a tile for its product costs a CPU as much as the product.
  turned_key = key.swapaxes(2, 3)

  def visit(carried, tile):
    dquery, dkey, dvalue, drow, dtable, bias, dbias = carried
    i, j = tile.i, tile.j
    q, k, v, dy_i = (
      tiles.take(x, index)
      for x, index in ((query, i), (key, j), (value, j), (dy, i))
    )
    logits = _dot('bhsk,bhnk->bhsn', k, q)
    bias = tiles.bias(row, tile, bias, _by_key)
    if bias is not None:
      logits += bias
    for term in _terms(tiles, table, rows, hidden, tile):
      logits += term.mT
    weights = jnp.exp(logits - tiles.take(log_sum, i)[:, :, None])
    dweights = _dot('bhsk,bhnk->bhsn', v, dy_i)
    dlogits = weights * (dweights - tiles.take(mean, i)[:, :, None])
    if drow is not None:
      dbias = jnp.where(tile.first, 0.0, dbias) + dlogits
      drow = _add_diagonal(tiles, drow, dbias, tile)
    if dtable is not None:
      # Queries that share a row of the table add up, by a product and no
      # scatter.
      hot = jax.nn.one_hot(tiles.take(rows, i, axis=0), table.shape[1])
      summed = jnp.einsum('bhsn,nr->hrs', dlogits, hot)
      dtable = tiles.add(dtable, summed, j)
    # Products in the type of the operands, as XLA's own gradient has them.
    narrow, across = dlogits.astype(key.dtype), tiles.take(turned_key, j, 3)
    part = _dot('bhks,bhsn->bhkn', across, narrow)
    dquery = tiles.add(dquery, part, i, axis=3)
    dkey = tiles.add(dkey, _dot('bhsn,bhnk->bhsk', narrow, q), j)
    weights = weights.astype(dy.dtype)
    dvalue = tiles.add(dvalue, _dot('bhsn,bhnk->bhsk', weights, dy_i), j)
    return dquery, dkey, dvalue, drow, dtable, bias, dbias

  zeros = functools.partial(jnp.zeros, dtype=jnp.float32)
  side = (*query.shape[:2], tiles.side, tiles.side)
  start = (
    *(zeros(x.shape) for x in (turned_key, key, value)),
    None if row is None else zeros(query.shape[:1] + row.shape),
    None if table is None else zeros(table.shape),
    _no_bias(tiles, row),
    None if row is None else zeros(side),
  )
  dquery, dkey, dvalue, drow, dtable, *_ = tiles.sweep(visit, start)
  return (
    dquery.swapaxes(2, 3).astype(query.dtype),
    dkey.astype(key.dtype),
    dvalue.astype(value.dtype),
    # Summed over the batch once, so that a sharded batch is reduced once.
    None if row is None else drow.sum(axis=0).astype(row.dtype),
    None if table is None else dtable.astype(table.dtype),
    None,  # of rows, which are integers
    None,  # of what is hidden
  )


_attend.defvjp(_forward, _backward)
