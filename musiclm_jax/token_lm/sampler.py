"""The sampler of a token LM: conditioning and a prefix -> codes.

What `decode` computes, compiled once for every number of rows and kept: a
sequence is read in steps of `_STEP` ids and drawn in a few programs, of which
each reads no more of the cache than a part of the crop can have filled.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from musiclm_jax.contracts import compiler_options, sharding
from musiclm_jax.contracts.array_types import Codes, PRNGKey, PyTree
from musiclm_jax.contracts.sharding import BATCH_AXES
from musiclm_jax.contracts.task import Batch, Params
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.nn.attention import Cache
from musiclm_jax.token_lm import decode, speculation
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.decoding_weights import prepare
from musiclm_jax.token_lm.language_model import LanguageModel

_STEP = 128  # ids, in which lengths that are compiled apart differ
# Two cores lose more than they win by sharing what is not a product.
_COMPILER_OPTIONS = {
  'cpu': {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
  }
}
# Parts of a crop have a program each: shorter ones save less than that costs.
_MAX_PARTS, _LEAST_PART = 4, 512  # ids


@dataclasses.dataclass(frozen=True)
class Sampled:
  """A window as far as it is drawn.

  Attributes:
    sequence: On the devices; it goes into what follows and is spent then.
    keys: One a row [B].
    length: Ids that are known.
  """

  sequence: decode.Sequence
  keys: PRNGKey
  length: int


@dataclasses.dataclass(frozen=True)
class Draft:
  """A smaller LM that guesses what another draws; see `speculation`.

  Attributes:
    lm: The LM, of the same layout.
    params: Player -> parameters, wherever they are.
  """

  lm: LanguageModel
  params: Params


class Sampler:
  """Draws codes from a token LM.

  Attributes:
    lm: The LM.
  """

  def __init__(
    self,
    lm: LanguageModel,
    params: Params,
    *,
    mesh: Mesh | None = None,
    weights: DType = 'float32',
    draft: Draft | None = None,
  ):
    """Takes an LM; nothing is compiled or moved before it is needed.

    Args:
      lm: The LM.
      params: Player -> parameters, wherever they are.
      mesh: Over which rows and weights lie; None: on the default device.
      weights: See `decoding_weights.prepare`.
      draft: What guesses tokens, where there is such.
    """
    self.lm, self._mesh, self._draft = lm, mesh, draft
    self._given, self._weights = params, weights
    self._begin, self._advance = programs(lm, mesh, draft)
    self._known = jax.jit(lm.known, static_argnames='guided')
    self._reaches = reaches(lm.layout.num_tokens)

  @functools.cached_property
  def _params(self) -> PyTree:
    params = prepare(self.lm, self._given, self._mesh, self._weights)
    if not self._draft:
      return params
    draft = self._draft
    return params, prepare(draft.lm, draft.params, self._mesh, self._weights)

  def begin(
    self,
    conditioning: Batch,
    *,
    keys: PRNGKey,
    guided: bool = False,
    prefix: Codes | None = None,
    num_mulan_levels: int | None = None,
    negative: Codes | None = None,
  ) -> Sampled:
    """Reads the conditioning of a window, and what of it is there already.

    Args:
      conditioning: As a batch, without what is predicted; its segments span
        the whole crop even where fewer frames are drawn.
      keys: One a row [B].
      guided: Whether there will be guidance; see `LanguageModel.known`.
      prefix: [B, P, Q] codes that the window begins with.
      num_mulan_levels: MuLan levels kept, others are masked; None keeps all.
      negative: MuLan tokens [B, 12] of what guidance pushes away from, in the
        place of masked ones; all else that is read stays.
    """
    conditioning, prefix, negative, keys = sharding.place_rows(
      (conditioning, prefix, negative, keys), self._mesh
    )
    known = self._known(
      conditioning,
      prefix,
      num_mulan_levels=num_mulan_levels,
      guided=guided and self.lm.can_guide(num_mulan_levels, negative),
      negative=negative,
    )
    length = known.shape[1]
    # Of few lengths, hence programs; nothing reads what follows.
    padded = min(-(-length // _STEP) * _STEP, self.lm.layout.num_tokens)
    known = jnp.pad(known, ((0, 0), (0, padded - length)))
    sequence = self._begin(self._params, known, jnp.int32(length))
    return Sampled(sequence, keys, length)

  def advance(
    self, window: Sampled, num_frames: int, sampling: SamplingParams
  ) -> Sampled:
    """Draws a window up to a number of frames, prefix included.

    In however many calls: the codes are the same.

    Raises:
      ValueError: If a crop has fewer frames.
    """
    stop = self._length(num_frames)
    sequence = window.sequence
    for reach in self._reaches:
      if window.length <= reach:
        sequence = self._advance(
          self._params,
          sequence=sequence,
          stop=jnp.int32(min(stop, reach + 1)),
          keys=window.keys,
          sampling=sampling,
          reach=reach,
        )
      if stop <= reach + 1:
        break
    return dataclasses.replace(
      window, sequence=sequence, length=max(stop, window.length)
    )

  def codes(self, window: Sampled) -> np.ndarray:
    """What there is of a window, prefix included: int32 [B, T, Q]."""
    layout, predicted = self.lm.layout, self.lm.layout.predicted
    ids = jax.device_get(window.sequence.ids)
    ids = ids[:: len(ids) // len(window.keys)]  # without those of guidance
    ids = ids[:, layout.num_conditioning : window.length]
    codes = (ids - layout.predicted_offset) % predicted.codebook_size
    return codes.reshape(len(codes), -1, predicted.num_levels)

  def _length(self, num_frames: int) -> int:
    """Ids of the conditioning and so many frames."""
    layout, predicted = self.lm.layout, self.lm.layout.predicted
    if not 0 < num_frames <= predicted.num_frames:
      raise ValueError(
        f'num_frames is {num_frames}, a crop has {predicted.num_frames}'
      )
    return layout.num_conditioning + num_frames * predicted.num_levels


def programs(
  lm: LanguageModel, mesh: Mesh | None = None, draft: Draft | None = None
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
  """What is compiled: `decode.begin` and `decode.advance`, or `speculation`'s.

  Args:
    lm: The LM.
    mesh: See `Sampler`.
    draft: See `Sampler`.
  """
  how, models = decode, (lm.model,)
  if draft is not None:
    how, models = speculation, (lm.model, draft.lm.model)
  placed, platform = {}, jax.default_backend()
  if mesh is not None:
    placed['out_shardings'] = sequence_sharding(lm, mesh, draft)
    platform = mesh.devices.flat[0].platform
  placed['compiler_options'] = compiler_options.understood(
    _COMPILER_OPTIONS, platform
  )
  begin = jax.jit(functools.partial(how.begin, *models), **placed)
  advance = jax.jit(
    functools.partial(how.advance, *models),
    static_argnames='reach',
    donate_argnames='sequence',
    **placed,
  )
  return begin, advance


def sequence_sharding(
  lm: LanguageModel, mesh: Mesh, draft: Draft | None = None
) -> decode.Sequence:
  """Where a sequence lies: rows over the batch's axes, heads as weights."""

  def cache_of(lm: LanguageModel) -> Cache:
    heads = lm.model.transformer.num_heads
    (axis,) = sharding.spec_of(('heads',), (heads,), mesh)
    store = NamedSharding(mesh, PartitionSpec(None, BATCH_AXES, axis))
    return Cache(store, store, sharding.replicated(mesh))

  guessed = None
  if draft:
    cache = cache_of(draft.lm)
    guessed = speculation.Guessed(cache, sharding.replicated(mesh))
  rows = sharding.batch_sharding(mesh)
  return decode.Sequence(rows, cache_of(lm), guessed)


def reaches(capacity: int) -> list[int]:
  """Ends of parts of the cache, of like length, the last one `capacity`."""
  parts = max(1, min(_MAX_PARTS, capacity // _LEAST_PART))
  size = math.ceil(capacity / parts / _STEP) * _STEP
  return [*range(size, capacity, size), capacity]
