"""A piece in the making: stages and decoder, run to the end or chunk by chunk.

`all` makes each stage to its end before the next; iterating makes what the next
second needs. Both are the same programs on the same rows: equal, bit for bit.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from musiclm_jax.cascade import decoder
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.stage_run import STAGES, AnySampler, Call, StageRun
from musiclm_jax.token_lm.layout import Layout


class Piece:
  """One call of the generator.

  Attributes:
    samples: Of the waveform.
    count: Pieces, B; rows that fill up devices are not among them.
  """

  def __init__(
    self,
    networks: Mapping[str, Network],
    samplers: Mapping[str, AnySampler],
    call: Call,
    samples: int,
    count: int,
  ):
    """Begins a piece; nothing is made.

    Args:
      networks: Stage -> network.
      samplers: Stage -> what draws its codes, each reading the one before.
      call: What is asked for.
      samples: Length of the waveform.
      count: Pieces; the call may have more rows.
    """
    self.samples, self.count = samples, count
    self._codec = networks['soundstream']
    self._call = call
    self._frames = math.ceil(samples / self._codec.model.hop_length)
    layouts = {name: sampler.lm.layout for name, sampler in samplers.items()}
    totals = self.totals(layouts, self._frames)
    self._stages: dict[str, StageRun] = {}
    before = None
    for name, sampler in samplers.items():
      if name == 'semantic' and not reads_semantic(layouts):
        continue
      before = self._stages[name] = StageRun(
        name, networks[name], sampler, call, totals[name], before
      )
    self._last = before

  @staticmethod
  def totals(layouts: Mapping[str, Layout], frames: int) -> dict[str, int]:
    """What each stage covers, as much as the next one must see.

    Args:
      layouts: Stage -> layout, each reading the one before.
      frames: Of the piece, at the codec's frame rate.

    Returns:
      Stage -> frames, counted as in what it reads.
    """
    totals, needed = {}, frames
    for name in reversed(layouts):
      totals[name] = math.ceil(needed / STAGES[name].frames)
      needed = max(totals[name], STAGES[name].crop(layouts[name]))
    return totals

  def all(self) -> np.ndarray:
    """Makes all of it: float32 [B, S] within [-1, 1]."""
    for stage in self._stages.values():
      stage.ensure(stage.codes.shape[1])
    waveform = decoder.decode(
      self._codec,
      self._acoustic(0, self._frames),
      keep=self._call.keep,
      progress=self._call.progress,
    )
    return decoder.limit(waveform[: self.count, : self.samples])

  def __iter__(self) -> Iterator[np.ndarray]:
    """Yields float32 [B, n] within [-1, 1], about a second at a time."""
    blocks, hop = (
      decoder.BlockDecoder(self._codec),
      self._codec.model.hop_length,
    )
    while blocks.done < self._frames:
      start = blocks.done
      stop = min(start + decoder.BLOCK_FRAMES, self._frames)
      self._last.ensure(stop)
      made, _ = blocks(self._acoustic(start, stop))
      yield decoder.limit(made[: self.count, : self.samples - start * hop])

  def tokens(self) -> dict[str, np.ndarray]:
    """What is made: `semantic` int32 [B, Ts] and `acoustic` [B, Ta, Q].

    As long as the waveform, rounded up; while it is made, as far as it is, and
    without `semantic` where no stage reads it.
    """
    frames = min(self._last.ready, self._frames)
    tokens = {'acoustic': self._acoustic(0, frames)[: self.count]}
    if semantic := self._stages.get('semantic'):
      ticks = min(semantic.ready, math.ceil(self._frames / 2))
      codes = semantic.codes[: self.count, :ticks, 0]
      tokens = {'semantic': codes, **tokens}
    return tokens

  def change(
    self,
    mulan: np.ndarray | None = None,
    sampling: SamplingConfig | None = None,
  ) -> float:
    """Goes on otherwise, from the first that is not made yet.

    Args:
      mulan: MuLan tokens [B, 12] of what shall be played.
      sampling: How to draw.

    Returns:
      Seconds from which the tokens of the first stage are other ones.
    """
    first = next(iter(self._stages.values()))
    second = first.ready / first.frame_rate
    call = self._call
    if mulan is not None:
      before = [e for e in call.conditioning.later if e[0] < second]
      later = (*before, (second, mulan))
      conditioning = dataclasses.replace(call.conditioning, later=later).padded(
        len(call.keys)
      )
      call = dataclasses.replace(call, conditioning=conditioning)
    if sampling is not None:
      call = dataclasses.replace(call, sampling=sampling)
    self._call = call
    for stage in self._stages.values():
      stage.change(call)
    return second

  def _acoustic(self, start: int, stop: int) -> np.ndarray:
    """All levels of some frames."""
    acoustic = (s for name, s in self._stages.items() if name != 'semantic')
    return np.concatenate([s.codes[:, start:stop] for s in acoustic], axis=2)


def reads_semantic(layouts: Mapping[str, Layout]) -> bool:
  """Whether semantic tokens condition a later stage.

  They do not in the paper's ablation, and then none are made.
  """
  later = [la for name, la in layouts.items() if name != 'semantic']
  return any(s.stream == 'semantic' for la in later for s in la.segments)
