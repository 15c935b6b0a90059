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

from musiclm_jax.contracts.array_types import Codes, PRNGKey
from musiclm_jax.contracts.task import Batch, Params
from musiclm_jax.token_lm import decode
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.language_model import LanguageModel

_STEP = 128  # ids, in which lengths that are compiled apart differ
_MAX_PARTS = 4  # of a crop, each with a program of its own


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


class Sampler:
  """Draws codes from a token LM.

  Attributes:
    lm: The LM.
  """

  def __init__(self, lm: LanguageModel):
    """Takes an LM; nothing is compiled before it is needed."""
    self.lm = lm
    layout = lm.layout
    self._begin = jax.jit(functools.partial(decode.begin, lm.model))
    self._advance = jax.jit(
      functools.partial(decode.advance, lm.model),
      static_argnames='reach',
      donate_argnames='sequence',
    )
    self._known = jax.jit(lm.known, static_argnames='guided')
    self._reaches = _reaches(layout.num_tokens)

  def generate(
    self,
    params: Params,
    conditioning: Batch,
    *,
    num_frames: int,
    keys: PRNGKey,
    sampling: SamplingParams,
    prefix: Codes | None = None,
    num_mulan_levels: int | None = None,
    negative: Codes | None = None,
  ) -> np.ndarray:
    """Samples the predicted segment, continuing a prefix where given.

    For music beyond a crop call it on windows, each with the last frames of
    the one before as prefix and with the conditioning of its own time.

    Args:
      params: Player -> parameters.
      conditioning: See `begin`.
      num_frames: Frames in all, prefix included; at most the crop's.
      keys: One key a row [B]: a row's result depends on no other row.
      sampling: How to draw.
      prefix: See `begin`.
      num_mulan_levels: See `begin`.
      negative: See `begin`.

    Returns:
      [B, num_frames, Q] codes, of which the first are the prefix.

    Raises:
      ValueError: If the frames are more than a crop's, or less than 1 is left
        to draw.
    """
    window = self.begin(
      params,
      conditioning,
      keys=keys,
      guided=sampling.guidance != 1.0,
      prefix=prefix,
      num_mulan_levels=num_mulan_levels,
      negative=negative,
    )
    if self._length(num_frames) <= window.length:
      raise ValueError(f'{num_frames} frames: the prefix has as many')
    return self.codes(self.advance(params, window, num_frames, sampling))

  def begin(
    self,
    params: Params,
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
      params: Player -> parameters.
      conditioning: As a batch, without what is predicted; its segments span
        the whole crop even where fewer frames are drawn.
      keys: One a row [B].
      guided: Whether there will be guidance; see `LanguageModel.known`.
      prefix: [B, P, Q] codes that the window begins with.
      num_mulan_levels: MuLan levels kept, others are masked; None keeps all.
      negative: MuLan tokens [B, 12] of what guidance pushes away from, in the
        place of masked ones; all else that is read stays.
    """
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
    sequence = self._begin(params['lm'], known, jnp.int32(length))
    return Sampled(sequence, keys, length)

  def advance(
    self,
    params: Params,
    window: Sampled,
    num_frames: int,
    sampling: SamplingParams,
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
          params['lm'],
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
    ids = jax.device_get(window.sequence.ids)[: len(window.keys)]
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


def _reaches(capacity: int) -> list[int]:
  """Ends of parts of the cache, of like length, the last one `capacity`."""
  parts = max(1, min(_MAX_PARTS, capacity // _STEP))
  size = math.ceil(capacity / parts / _STEP) * _STEP
  return [*range(size, capacity, size), capacity]
