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
from musiclm_jax.cascade.stage_run import STAGES, Call, StageRun
from musiclm_jax.token_lm.sampler import Sampler


class Piece:
  """One call of the generator.

  Attributes:
    samples: Of the waveform.
    count: Pieces, B; rows that fill up devices are not among them.
  """

  def __init__(
    self,
    networks: Mapping[str, Network],
    samplers: Mapping[str, Sampler],
    call: Call,
    samples: int,
    count: int,
  ):
    """Begins a piece; nothing is made.

    Args:
      networks: Stage -> network.
      samplers: Stage -> what draws its codes.
      call: What is asked for.
      samples: Length of the waveform.
      count: Pieces; the call may have more rows.
    """
    self.samples, self.count = samples, count
    self._codec = networks['soundstream']
    self._call = call
    self._frames = math.ceil(samples / self._codec.model.hop_length)
    totals = self.totals(networks, self._frames)
    self._stages: dict[str, StageRun] = {}
    for name, before in (
      ('semantic', None),
      ('coarse', 'semantic'),
      ('fine', 'coarse'),
    ):
      if name == 'semantic' and not reads_semantic(networks):
        continue
      self._stages[name] = StageRun(
        name,
        networks[name],
        samplers[name],
        call,
        totals[name],
        self._stages.get(before),
      )

  @staticmethod
  def totals(networks: Mapping[str, Network], frames: int) -> dict[str, int]:
    """What each stage covers, as much as the next one must see.

    Args:
      networks: Stage -> network.
      frames: Of the piece, at the codec's frame rate.

    Returns:
      Stage -> frames, counted as in what it reads.
    """
    crops = {
      name: stage.crop(networks[name].model.layout)
      for name, stage in STAGES.items()
    }
    ticks = math.ceil(max(frames, crops['fine']) / 2)
    semantic = max(ticks, crops['coarse'])
    return {'semantic': semantic, 'coarse': ticks, 'fine': frames}

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
      self._stages['fine'].ensure(stop)
      made, _ = blocks(self._acoustic(start, stop))
      yield decoder.limit(made[: self.count, : self.samples - start * hop])

  def tokens(self) -> dict[str, np.ndarray]:
    """What is made: `semantic` int32 [B, Ts] and `acoustic` [B, Ta, Q].

    As long as the waveform, rounded up; while it is made, as far as it is, and
    without `semantic` where no stage reads it.
    """
    frames = min(self._stages['fine'].ready, self._frames)
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
    coarse, fine = self._stages['coarse'], self._stages['fine']
    return np.concatenate(
      [coarse.codes[:, start:stop], fine.codes[:, start:stop]], axis=2
    )


def reads_semantic(networks: Mapping[str, Network]) -> bool:
  """Whether semantic tokens condition the coarse stage.

  They do not in the paper's ablation, and then none are made.
  """
  segments = networks['coarse'].model.layout.segments
  return 'semantic' in (segment.stream for segment in segments)
