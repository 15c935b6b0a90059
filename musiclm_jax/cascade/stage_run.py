"""One stage of one call: codes, made as far as somebody asks for them.

A stage pulls what it reads from the stage before. Asked for everything it makes
its windows from end to end; asked for little at a time it stops within one and
goes on later, by the same programs, so that the codes are the same.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.windows import Window, chunks, windows
from musiclm_jax.contracts.kept_parts import (
  Arrays,
  Keep,
  KeptParts,
  holds,
  unkept,
)
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.parallel_lm.sampler import ParallelCrop, ParallelSampler
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.layout import Layout
from musiclm_jax.token_lm.sampler import Sampled, Sampler

AnySampler = Sampler | ParallelSampler
MAX_CHUNKS = 8  # of all pieces, that a stage of chunks makes at once


@dataclasses.dataclass(frozen=True)
class StageRule:
  """How a stage covers a piece.

  Attributes:
    key: Number that its random keys are folded with.
    reads: Stream of the stage before that it reads.
    frames: It predicts for each frame that it reads.
    continues: Whether its `windows` continue each other; `chunks` do not
      depend on each other, so that several go through as rows of one batch.
    sampled_as: The stage whose sampling settings it takes; None: its own.
  """

  key: int
  reads: str | None
  frames: int
  continues: bool
  sampled_as: str | None = None

  def crop(self, layout: Layout) -> int:
    """Frames that it reads of the stage before in a crop."""
    return layout.predicted.num_frames // self.frames


STAGES = {
  'semantic': StageRule(0, None, 1, True),
  # Two acoustic frames are one semantic frame, exactly.
  'coarse': StageRule(1, 'semantic', 2, True),
  'fine': StageRule(2, 'acoustic', 1, False),
  # All levels, in the place of coarse and fine.
  'parallel': StageRule(3, 'semantic', 2, True, 'coarse'),
}


@dataclasses.dataclass(frozen=True)
class Call:
  """What all stages of one call share.

  Attributes:
    conditioning: Of B pieces; see `Generator.generate`.
    keys: One a row [B].
    sampling: How to draw.
    begun: Stage -> codes [P, Q] that all pieces begin with.
    keep: Keeps what each window makes.
    progress: Takes the events.
  """

  conditioning: Conditioning
  keys: jax.Array
  sampling: SamplingConfig
  begun: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  keep: Keep = unkept
  progress: ProgressCallback | None = None


class Readable(Protocol):
  """What a stage reads: frames of the stage before."""

  def read(self, start: int, stop: int) -> np.ndarray:
    """Returns [B, stop - start, ...]."""


@dataclasses.dataclass(frozen=True)
class Given:
  """Tokens that are there already.

  Attributes:
    codes: [B, T, ...].
  """

  codes: np.ndarray

  def read(self, start: int, stop: int) -> np.ndarray:
    """Returns frames of them."""
    return self.codes[:, start:stop]


class StageRun:
  """Makes the codes of a stage.

  Attributes:
    name: Of the stage.
    codes: int32 [B, total, Q]; what is not made yet means nothing.
    ready: Frames that are made.
  """

  def __init__(
    self,
    name: str,
    network: Network,
    sampler: AnySampler,
    call: Call,
    total: int,
    source: Readable | None,
  ):
    """Begins with what the call has of it; nothing is made.

    Args:
      name: Of the stage.
      network: Its LM.
      sampler: Of the same LM.
      call: The call.
      total: Frames to cover, counted as in what it reads.
      source: What it reads, a crop of it at least; None where it reads none.
    """
    self.name, self._stage = name, STAGES[name]
    self._network, self._sampler, self._call = network, sampler, call
    self._source, self._total = source, total
    layout = network.model.layout
    self._layout, self._crop = layout, self._stage.crop(layout)
    levels, ratio = layout.predicted.num_levels, self._stage.frames
    shape = (len(call.keys), total * ratio, levels)
    self.codes = np.zeros(shape, np.int32)
    begun = call.begun.get(name, self.codes[0, :0])
    self.codes[:, : len(begun)] = begun
    self.ready = len(begun)
    self._plan = self._cut(self.ready // ratio)
    self._place = 0  # of the window that is made next, or goes on
    self._window: Sampled | ParallelCrop | None = None
    left = self.codes[:, self.ready :].size
    self._meter = Meter(name, left, 'tokens', call.progress)

  def read(self, start: int, stop: int) -> np.ndarray:
    """Returns frames as the next stage reads them, made where they are not."""
    self.ensure(stop)
    codes = self.codes[:, start:stop]
    return codes[..., 0] if self.name == 'semantic' else codes

  def ensure(self, frames: int) -> None:
    """Makes what is missing of so many frames, or a little more."""
    while self.ready < frames:
      step = self._go_on if self._stage.continues else self._make_chunks
      step(frames)

  def change(self, call: Call) -> None:
    """Goes on from where it is with another conditioning or sampling."""
    self._call, self._window = call, None
    done = -(-self.ready // self._stage.frames)
    if self._stage.continues:
      made = self._plan[: self._place + 1]
      # What comes is numbered on, so that no random key is used twice.
      self._plan = [*made, *self._cut(done)]
      self._place = len(made)

  def _cut(self, begun: int) -> list[Window]:
    """Cuts what is left to make into windows."""
    if not self._stage.continues:
      return chunks(self._total, self._crop, begun)
    changes = self._call.conditioning.changes
    cuts = (round(at * self._rate) for at in changes)
    return windows(self._total, self._crop, begun, cuts)

  @property
  def frame_rate(self) -> float:
    """Of its codes, in Hz."""
    return self._layout.predicted.frame_rate

  @property
  def _rate(self) -> float:
    """Frames a second that it reads of the stage before."""
    return self.frame_rate / self._stage.frames

  def _go_on(self, frames: int) -> None:
    """Makes a window, as far as it is asked for where nothing is kept."""
    ratio, window = self._stage.frames, self._plan[self._place]
    stop = window.end
    if not isinstance(self._call.keep, KeptParts):
      stop = min(stop, -(-frames // ratio))
    first = ratio * window.start

    def draw() -> Arrays:
      if self._window is None:
        prefix = self.codes[:, first : ratio * (window.start + window.prefix)]
        self._window = self._begin([self._place], prefix)
      self._window = self._sampler.advance(
        self._window, ratio * stop - first, self._params
      )
      return {'codes': self._sampler.codes(self._window)}

    part = f'{self.name} window {self._place}{self._network.where}'
    kept = holds(self._call.keep, part)
    made = self._call.keep(part, draw)['codes']
    self._put(ratio * stop, made[:, self.ready - first :], kept)
    if stop == window.end:
      self._place, self._window = self._place + 1, None

  def _make_chunks(self, frames: int) -> None:
    """Makes as many chunks as are asked for, of those of one batch."""
    rows = len(self._call.keys)
    most = max(1, MAX_CHUNKS * self._network.shards // rows)
    size = min(len(self._plan), most)
    first = self._place
    last = first
    while (last + 1) % size and last + 1 < len(self._plan):
      if self._plan[last].end >= frames:
        break
      last += 1
    # Each has its place in the batch, whatever stands in the others; those of
    # one piece are neighbours, on one device.
    begins = first // size * size
    places = [min(max(begins + k, first), last) for k in range(size)]

    def draw() -> Arrays:
      window = self._begin(places, None)
      length = self._plan[first].end - self._plan[first].start
      window = self._sampler.advance(window, length, self._params)
      return {'codes': self._sampler.codes(window)}

    part = f'{self.name} chunks {first} to {last}{self._network.where}'
    kept = holds(self._call.keep, part)
    made = self._call.keep(part, draw)['codes']
    made = made.reshape(rows, size, *made.shape[1:])
    for place in range(first, last + 1):
      # A chunk makes again what the one before it has made, and drops it.
      own = made[:, place - begins, self._plan[place].prefix :]
      self._put(self._plan[place].end, own, kept)
    self._place = last + 1

  def _put(self, stop: int, codes: np.ndarray, kept: bool) -> None:
    """Takes the codes of the frames up to `stop`."""
    self.codes[:, self.ready : stop] = codes
    self.ready = stop
    self._meter.advance(codes.size, skipped=kept)

  def _begin(
    self, places: list[int], prefix: np.ndarray | None
  ) -> Sampled | ParallelCrop:
    """Begins windows, for one piece after another."""
    given = self._inputs(places)
    sampling = self._call.sampling
    negative = given.pop('negative', None)
    return self._sampler.begin(
      given,
      keys=_window_keys(self._call.keys, self._stage.key, places),
      guided=self._params.guidance != 1.0,
      prefix=prefix,
      num_mulan_levels=sampling.mulan_levels,
      negative=negative,
    )

  def _inputs(self, places: list[int]) -> dict[str, np.ndarray]:
    """What windows read: stream -> one row a (piece, window)."""
    known = []
    for place in places:
      window = self._plan[place]
      begins = (window.start + window.prefix) / self._rate
      streams = self._call.conditioning.at(
        window.start / self._rate, self._layout, begins
      )
      if self._source is not None:
        streams[self._stage.reads] = self._source.read(
          window.start, window.start + self._crop
        )
      known.append(streams)
    rows = len(known) * len(self._call.keys)
    return {
      stream: np.stack([read[stream] for read in known], axis=1).reshape(
        rows, *codes.shape[1:]
      )
      for stream, codes in known[0].items()
    }

  @property
  def _params(self) -> SamplingParams:
    """How it draws."""
    kinds = (field.name for field in dataclasses.fields(SamplingParams))
    stage = self._stage.sampled_as or self.name
    return SamplingParams(
      **{
        kind: getattr(self._call.sampling, f'{kind}_{stage}') for kind in kinds
      }
    )


def _window_keys(keys: jax.Array, stage: int, places: list[int]) -> jax.Array:
  """The keys of windows of a stage, one a (piece, window)."""
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, stage)
  fold = functools.partial(jax.vmap(jax.random.fold_in, (0, None)), keys)
  return jnp.stack([fold(place) for place in places], axis=1).reshape(-1)
