"""The weights of a token LM as decoding wants them, on its devices.

Trained, all layers are stacked in float32. Here each has its own, which lie
over a mesh by `contracts.sharding.RULES`, and kernels may be of fewer bits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import PyTree
from musiclm_jax.contracts.task import Params
from musiclm_jax.contracts.tensor_file import DType, quantize
from musiclm_jax.nn.einsum import Int8
from musiclm_jax.nn.transformer import unstack
from musiclm_jax.token_lm.language_model import LanguageModel

_KERNEL = 'kernel'  # what `Einsum` calls what it multiplies with


def prepare(
  lm: LanguageModel,
  params: Params,
  mesh: Mesh | None = None,
  weights: DType = 'float32',
) -> PyTree:
  """Puts parameters on devices, each of which gets its share alone.

  Args:
    lm: The LM.
    params: Player -> parameters, wherever they are.
    mesh: Over which they lie; None: on the default device.
    weights: What the Transformer's kernels are rounded to, and stay: bfloat16,
      or int8 with a scale a channel. What they multiply is rounded to bfloat16
      then; sums are float32. Those of a bundle of this type are what they were.

  Returns:
    Parameters of `lm.model`, the Transformer's for `unstack`ed layers.
  """
  # Names are of axes over a mesh; to find them the network is traced.
  names = {} if mesh is None else flatten_dict(lm.abstract_params()['lm'])
  placed = {}
  for path, leaf in flatten_dict(dict(params['lm'])).items():
    axes = getattr(names[path], 'names', ()) if names else ()
    if weights == 'bfloat16' and path[-1] == _KERNEL:
      placed[path] = _put(np.asarray(leaf, jnp.bfloat16), axes, mesh)
    elif weights == 'int8' and path[-1] == _KERNEL:
      matrix = np.asarray(leaf)
      # As a file has it: the scales along the longest axis, a layer's own.
      longest = 1 + int(np.argmax(matrix.shape[1:]))
      placed[path] = Int8(
        *(_put(part, axes, mesh) for part in quantize(matrix, longest))
      )
    else:
      placed[path] = _put(leaf, axes, mesh)
  params = unflatten_dict(placed)
  return {**params, 'transformer': unstack(params['transformer'])}


def abstract(
  lm: LanguageModel, mesh: Mesh, weights: DType = 'float32'
) -> PyTree:
  """Shapes of what `prepare` returns and where they lie; nothing is made.

  Args:
    lm: The LM.
    mesh: Over which they lie; its devices need not be there.
    weights: float32 or bfloat16.
  """
  placed = {}
  for path, leaf in flatten_dict(lm.abstract_params()['lm']).items():
    axes = getattr(leaf, 'names', ())
    shape, dtype = nn.unbox(leaf).shape, nn.unbox(leaf).dtype
    if path[-1] == _KERNEL:
      dtype = weights
    spec = sharding.spec_of(axes, shape, mesh)
    placed[path] = _shape(shape, dtype, mesh, spec)
  params = unflatten_dict(placed)

  def layer_of(leaf: jax.ShapeDtypeStruct, _: int) -> jax.ShapeDtypeStruct:
    spec = PartitionSpec(*leaf.sharding.spec[1:])
    return _shape(leaf.shape[1:], leaf.dtype, mesh, spec)

  return {**params, 'transformer': unstack(params['transformer'], layer_of)}


def _shape(
  shape: tuple[int, ...],
  dtype: jax.typing.DTypeLike,
  mesh: Mesh,
  spec: PartitionSpec,
) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))


def _put(
  leaf: jax.typing.ArrayLike, axes: tuple[str | None, ...], mesh: Mesh | None
) -> jax.Array:
  if mesh is None:
    return jax.device_put(leaf)
  spec = sharding.spec_of(axes, np.shape(leaf), mesh)
  return jax.device_put(leaf, NamedSharding(mesh, spec))
