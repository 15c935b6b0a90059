"""Attention of a whole sequence by cuDNN's fused kernel, on NVIDIA GPUs.

[B, H, T, head_dim] x 3 -> [B, H, T, head_dim]. The kernel wants its bias as a
matrix: [H, T, T] in the type of the operands, once a layer and shared by the
batch, so that memory is quadratic in T, unlike that of `blockwise_attention`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.relative_bias import RowBias, toeplitz

_MULTIPLE = 8  # of tokens; the kernel takes no odd number beside a bias


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
  """Computes softmax(q k + bias) v for every position of a sequence.

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
      "model.attention_kernel='cudnn' wants an NVIDIA GPU and dtype bfloat16; "
      f"here is {query.dtype} on {jax.default_backend()}: take 'blockwise', or "
      f'see what JAX says: {error}'
    ) from error
  return y[:, :length].swapaxes(1, 2)
