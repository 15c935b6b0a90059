"""The sampler of a parallel LM: conditioning and a prefix -> codes.

To a stage it is what `token_lm.sampler` has for a token LM. A window is drawn
as a whole when some of it is first asked for, by one program whatever of it is
there already, and handed out as far as it is asked for.
"""

import dataclasses
import functools

import jax
import numpy as np
from jax.sharding import Mesh

from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.array_types import Codes, PRNGKey
from musiclm_jax.contracts.task import Batch, Params
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.parallel_lm.decoder import ParallelDecoder
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.decoding_weights import prepare
from musiclm_jax.token_lm.language_model import UNKNOWN


@dataclasses.dataclass(frozen=True)
class ParallelCrop:
  """A window, drawn or not.

  Attributes:
    read: What conditions it, of `ParallelDecoder.conditioning`.
    codes: [B, T, Q] of the whole crop, `UNKNOWN` where nothing is drawn yet.
    keys: One a row [B].
    length: Frames that are handed out.
    drawn: Whether all are.
  """

  read: list[Codes]
  codes: Codes
  keys: PRNGKey
  length: int
  drawn: bool = False


class ParallelSampler:
  """Draws codes from a parallel LM.

  Attributes:
    lm: The LM.
  """

  def __init__(
    self,
    lm: ParallelDecoder,
    params: Params,
    *,
    mesh: Mesh | None = None,
    weights: DType = 'float32',
  ):
    """Takes an LM; nothing is compiled or moved before it is needed.

    Args:
      lm: The LM.
      params: Player -> parameters, wherever they are.
      mesh: Over which rows and weights lie; None: on the default device.
      weights: See `decoding_weights.prepare`.
    """
    self.lm, self._mesh = lm, mesh
    self._given, self._weights = params, weights
    placed = {}
    if mesh is not None:
      placed['out_shardings'] = sharding.batch_sharding(mesh)
    self._decode = jax.jit(lm.decode, **placed)
    self._read = jax.jit(lm.conditioning, static_argnames='guided')

  @functools.cached_property
  def _params(self) -> Params:
    made = prepare(self.lm, self._given, self._mesh, self._weights)
    return {'lm': made}

  def begin(
    self,
    conditioning: Batch,
    *,
    keys: PRNGKey,
    guided: bool = False,
    prefix: Codes | None = None,
    num_mulan_levels: int | None = None,
    negative: Codes | None = None,
  ) -> ParallelCrop:
    """Takes what a window begins with; arguments as of `Sampler.begin`."""
    conditioning, negative, keys = sharding.place_rows(
      (conditioning, negative, keys), self._mesh
    )
    read = self._read(
      conditioning,
      num_mulan_levels=num_mulan_levels,
      guided=guided and self.lm.can_guide(num_mulan_levels, negative),
      negative=negative,
    )
    predicted = self.lm.layout.predicted
    shape = (len(keys), predicted.num_frames, predicted.num_levels)
    codes = np.full(shape, UNKNOWN, np.int32)
    length = 0 if prefix is None else prefix.shape[1]
    if length:
      codes[:, :length] = prefix
    codes = sharding.place_rows(codes, self._mesh)
    return ParallelCrop(read, codes, keys, length)

  def advance(
    self, window: ParallelCrop, num_frames: int, sampling: SamplingParams
  ) -> ParallelCrop:
    """Hands out a window up to a number of frames, prefix included.

    Raises:
      ValueError: If a crop has fewer frames.
    """
    frames = self.lm.layout.predicted.num_frames
    if not 0 < num_frames <= frames:
      raise ValueError(f'num_frames is {num_frames}, a crop has {frames}')
    if not window.drawn:
      codes = self._decode(
        self._params, window.read, window.codes, window.keys, sampling
      )
      window = dataclasses.replace(window, codes=codes, drawn=True)
    return dataclasses.replace(window, length=max(num_frames, window.length))

  def codes(self, window: ParallelCrop) -> np.ndarray:
    """What is handed out, prefix included: int32 [B, T, Q]."""
    return np.asarray(jax.device_get(window.codes))[:, : window.length]
