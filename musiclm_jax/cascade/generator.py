"""The generator: a conditioning -> tokens -> waveform, of any length.

  mulan [B, 12] -> semantic [B, Ts] -> coarse [B, 2 Ts, 4]
                -> fine [B, 2 Ts, 8] -> waveform [B, S]

A stage whose crop is shorter than the piece runs in windows (`windows`). A
row's tokens depend on the seed and its own number alone, not on its company.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.inputs import check_seconds
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.windows import Window, chunks, windows
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import Arrays, Keep, KeptParts, unkept
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.token_lm.language_model import LanguageModel

MAX_CHUNKS = 32  # that the fine stage makes at once
BLOCK_FRAMES = 1500  # 30 s at 50 Hz, that the codec decodes at once
Seeds = int | Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class _Stage:
  """How a stage covers a piece.

  Attributes:
    key: Number that its random keys are folded with.
    reads: Stream of the stage before that it reads.
    frames: It predicts for each frame that it reads.
    continues: Whether its `windows` continue each other; `chunks` do not
      depend on each other, so that they go through as rows of one batch, of
      all pieces together.
  """

  key: int
  reads: str | None
  frames: int
  continues: bool


_STAGES = {
  'semantic': _Stage(0, None, 1, True),
  # Two acoustic frames are one semantic frame, exactly.
  'coarse': _Stage(1, 'semantic', 2, True),
  'fine': _Stage(2, 'acoustic', 1, False),
}


@dataclasses.dataclass(frozen=True)
class _Run:
  """One call of the generator.

  Attributes:
    conditioning: See `Generator.generate`.
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


class Generator:
  """Makes music with three token LMs and a codec."""

  def __init__(self, networks: Mapping[str, Network]):
    """Takes the networks; nothing is compiled before it is needed.

    Args:
      networks: `'soundstream'`, `'semantic'`, `'coarse'`, `'fine'` -> network,
        possibly more.
    """
    self._networks = networks
    self._layouts = {stage: networks[stage].model.layout for stage in _STAGES}
    self._samplers: dict[tuple, Callable] = {}

  @property
  def reads_semantic(self) -> bool:
    """Whether semantic tokens condition the coarse stage.

    They do not in the paper's ablation, and then none are made.
    """
    streams = (segment.stream for segment in self._layouts['coarse'].segments)
    return 'semantic' in streams

  @property
  def least_seconds(self) -> float:
    """Music that `make_stage` must be given tokens of: the longest crop."""
    crops = (self._layouts[s].predicted for s in ('coarse', 'fine'))
    return max(crop.num_frames / crop.frame_rate for crop in crops)

  @property
  def melody_stages(self) -> tuple[str, ...]:
    """The stages that have learned to follow a melody."""
    return tuple(stage for stage, la in self._layouts.items() if la.melody)

  def generate(
    self,
    conditioning: Conditioning,
    *,
    seconds: float,
    seed: Seeds,
    sampling: SamplingConfig,
    begun: Mapping[str, np.ndarray] | None = None,
    keep: Keep = unkept,
    progress: ProgressCallback | None = None,
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Generates a batch of pieces.

    Args:
      conditioning: Of B pieces.
      seconds: Length, in (0, 3600].
      seed: Another seed gives other music. Or of each piece its seed, and the
        number that it has among those of this seed.
      sampling: How to draw; with 0 MuLan levels it is the unconditional
        model, which reads none and needs no guidance.
      begun: Music that all pieces continue, less than `seconds` of it:
        `semantic` int [Ts] and `acoustic` [2 Ts, Q]; None: they begin.
      keep: Keeps the windows of a call, so that one with the same arguments
        goes on after an interruption.
      progress: Takes events of the stages and of the decoding.

    Returns:
      The waveform, float32 [B, S] in [-1, 1] at 24 kHz, S exactly as asked;
      and tokens, `semantic` int32 [B, Ts] and `acoustic` [B, Ta, Q], as long
      as the waveform, rounded up; without `semantic` where no stage reads it.

    Raises:
      UsageError: If the length is out of bounds, or no stage follows a melody.
    """
    if conditioning.melody and not self.melody_stages:
      raise UsageError(
        'the language models of this bundle follow no melody: leave --melody '
        'out'
      )
    codec = self._networks['soundstream']
    hop = codec.model.hop_length
    samples = check_seconds(seconds, hop * codec.model.frame_rate)
    frames = math.ceil(samples / hop)
    keys = _row_keys(seed, len(conditioning))
    given = self._begun(begun) if begun else {}
    run = _Run(conditioning, keys, sampling, given, keep, progress)
    totals, tokens, semantic = self._totals(frames), {}, None
    if self.reads_semantic:
      semantic = self._make('semantic', run, totals['semantic'])[..., 0]
      tokens['semantic'] = semantic[:, : math.ceil(frames / 2)]
    coarse = self._make('coarse', run, totals['coarse'], semantic)
    fine = self._make('fine', run, totals['fine'], coarse)
    acoustic = np.concatenate([coarse[:, :frames], fine], axis=2)
    waveform = decode(codec, acoustic, keep=keep, progress=progress)
    waveform = within_full_scale(waveform[:, :samples])
    return waveform, {**tokens, 'acoustic': acoustic}

  def make_stage(
    self,
    name: str,
    conditioning: Conditioning,
    read: np.ndarray | None = None,
    *,
    frames: int,
    seed: int,
    sampling: SamplingConfig,
  ) -> np.ndarray:
    """Runs one stage alone, on tokens of the stage before that are given.

    With those that `generate` has made it makes what `generate` makes.

    Args:
      name: `semantic`, `coarse` or `fine`.
      conditioning: Of B pieces.
      read: For `coarse` semantic tokens, int [B, Ts], which a stage that
        reads none ignores; for `fine` the coarse levels, int [B, Ta, Q].
      frames: Of the piece, at the codec's frame rate.
      seed: Of `generate`.
      sampling: How to draw.

    Returns:
      int32 [B, T, Q]: T frames at the stage's rate or, where the next stage
      must see more, as many as that.

    Raises:
      UsageError: If the tokens are of less than `least_seconds`.
    """
    stage, total = _STAGES[name], self._totals(frames)[name]
    if name == 'coarse' and not self.reads_semantic:
      read = None
    if read is not None and read.shape[1] < max(total, self._crop(name)):
      raise UsageError(
        f'the {name} stage must see {self.least_seconds:g} s of music: give '
        f'so much, got {read.shape[1]} frames of {stage.reads} tokens'
      )
    keys = _row_keys(seed, len(conditioning))
    run = _Run(conditioning, keys, sampling)
    return self._make(name, run, total, read)

  def _begun(self, tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cuts tokens of music into what each stage would have made of it."""
    acoustic, coarse = tokens['acoustic'], self._layouts['coarse'].predicted
    return {
      'semantic': tokens['semantic'][:, None],
      'coarse': acoustic[:, : coarse.num_levels],
      'fine': acoustic[:, coarse.num_levels :],
    }

  def _totals(self, frames: int) -> dict[str, int]:
    """What each stage covers, as much as the next one must see.

    Args:
      frames: Of the piece, at the codec's frame rate.

    Returns:
      Stage -> frames, counted as in what it reads.
    """
    ticks = math.ceil(max(frames, self._crop('fine')) / 2)
    semantic = max(ticks, self._crop('coarse'))
    return {'semantic': semantic, 'coarse': ticks, 'fine': frames}

  def _crop(self, name: str) -> int:
    """Frames that a stage reads of the one before in a crop."""
    return self._layouts[name].predicted.num_frames // _STAGES[name].frames

  def _make(
    self, name: str, run: _Run, total: int, read: np.ndarray | None = None
  ) -> np.ndarray:
    """Makes all codes of a stage, window by window.

    Args:
      name: Of the stage.
      run: The call.
      total: Frames to cover, counted as in `read`.
      read: Tokens of the stage before [B, T, ...]; a crop of them at least.
        None where it reads none.

    Returns:
      int32 [B, total * frames, Q].
    """
    stage, ratio = _STAGES[name], _STAGES[name].frames
    levels = self._layouts[name].predicted.num_levels
    codes = np.zeros((len(run.keys), total * ratio, levels), np.int32)
    begun = run.begun.get(name, codes[0, :0])
    codes[:, : len(begun)] = begun
    plan = self._plan(name, run, total, len(begun) // ratio)
    groups = _groups(not stage.continues, len(run.conditioning), len(plan))
    left = codes[:, len(begun) :].size
    meter = Meter(name, left, 'tokens', run.progress)
    for number, group in enumerate(groups):
      rows, places = np.transpose(group)
      first = plan[places[0]]
      # A chunk makes again what the one before it has made, and drops it.
      prefix = ratio * first.prefix if stage.continues else 0
      start = ratio * first.start
      part = f'{name} {number + 1}/{len(groups)}'
      kept = isinstance(run.keep, KeptParts) and part in run.keep
      draw = functools.partial(
        self._draw,
        name,
        given=self._inputs(name, run, group, plan, read),
        prefix=codes[rows, start : start + prefix],
        frames=ratio * (first.prefix + first.frames),
        keys=_window_keys(run.keys[rows], stage.key, places),
        sampling=run.sampling,
      )
      made = run.keep(part, draw)['codes']
      for row, place, own in zip(rows, places, made, strict=True):
        cut = plan[place]
        start, end = ratio * (cut.start + cut.prefix), ratio * cut.end
        codes[row, start:end] = own[ratio * cut.prefix :]
      # The last of several groups repeats its last row to be as long.
      new = sum(plan[place].frames for _, place in set(group))
      meter.advance(new * ratio * levels, skipped=kept)
    return codes

  def _plan(self, name: str, run: _Run, total: int, begun: int) -> list[Window]:
    """Cuts what a stage has to make into windows."""
    crop = self._crop(name)
    if not _STAGES[name].continues:
      return chunks(total, crop, begun)
    cuts = (round(at * self._rate(name)) for at in run.conditioning.changes)
    return windows(total, crop, begun, cuts)

  def _rate(self, name: str) -> float:
    """Frames a second that a stage reads of the one before."""
    return self._layouts[name].predicted.frame_rate / _STAGES[name].frames

  def _inputs(
    self,
    name: str,
    run: _Run,
    group: list[tuple[int, int]],
    plan: list[Window],
    read: np.ndarray | None,
  ) -> dict[str, np.ndarray]:
    """What a stage reads of windows: stream -> one row a (row, window)."""
    stage, layout, crop = _STAGES[name], self._layouts[name], self._crop(name)
    rate, known = self._rate(name), {}
    for place in sorted({place for _, place in group}):
      start = plan[place].start
      begins = (start + plan[place].prefix) / rate
      known[place] = run.conditioning.at(start / rate, layout, begins)
    streams = known[group[0][1]]
    given = {
      stream: np.stack([known[place][stream][row] for row, place in group])
      for stream in streams
    }
    if read is not None:
      given[stage.reads] = np.stack(
        [
          read[row, plan[place].start : plan[place].start + crop]
          for row, place in group
        ]
      )
    return given

  def _draw(self, name, given, prefix, frames, keys, sampling) -> Arrays:
    """Runs one window of a stage: its `LanguageModel.generate`, compiled once.

    Args:
      name: Of the stage.
      given: Of `_inputs`.
      prefix: Codes that the window begins with [B, P, Q].
      frames: Of the window, prefix included.
      keys: One a row [B].
      sampling: How to draw.
    """
    options = {
      'num_frames': frames,
      'num_mulan_levels': sampling.mulan_levels,
      'guidance': getattr(sampling, f'guidance_{name}'),
      'top_k': getattr(sampling, f'top_k_{name}'),
      'top_p': getattr(sampling, f'top_p_{name}'),
    }
    key = (name, prefix.shape, *options.values())
    if key not in self._samplers:
      lm: LanguageModel = self._networks[name].model
      self._samplers[key] = jax.jit(functools.partial(lm.generate, **options))
    codes = self._samplers[key](
      self._networks[name].params,
      {name: rows for name, rows in given.items() if name != 'negative'},
      negative=given.get('negative'),
      keys=keys,
      temperature=jnp.float32(getattr(sampling, f'temperature_{name}')),
      prefix=jnp.asarray(prefix, jnp.int32),
    )
    return {'codes': jax.device_get(codes)}


def within_full_scale(waveform: np.ndarray) -> np.ndarray:
  """Scales rows [B, S] that exceed [-1, 1] to their peak."""
  peak = np.abs(waveform).max(axis=1, keepdims=True)
  return waveform / np.maximum(peak, 1.0)


def decode(
  codec: Network,
  codes: np.ndarray,
  block_frames: int = BLOCK_FRAMES,
  keep: Keep = unkept,
  progress: ProgressCallback | None = None,
) -> np.ndarray:
  """Decodes codes in blocks, whose state is carried: memory is bounded.

  Args:
    codec: The `soundstream` network.
    codes: int [B, T, Q], any T.
    block_frames: Frames in a block.
    keep: Keeps the samples and the state of each block.
    progress: Takes events.

  Returns:
    float32 [B, T * hop].
  """
  step = jax.jit(codec.model.decode_step)
  total = codes.shape[1]
  length = min(total, block_frames)
  # Of one length, one program: what follows changes nothing before it.
  codes = np.pad(codes, ((0, 0), (0, -total % length), (0, 0)))
  meter = Meter('decoding', total, 'frames', progress)
  pasts, blocks = None, []

  def run(block: np.ndarray) -> Arrays:
    samples, new = jax.device_get(
      step(codec.params, codec.collections, block, pasts)
    )
    return {'samples': samples} | {f'past {k}': p for k, p in enumerate(new)}

  for start in range(0, total, length):
    block = codes[:, start : start + length]
    name = f'decoded from {start}'
    kept = isinstance(keep, KeptParts) and name in keep
    made = keep(name, functools.partial(run, block))
    pasts = tuple(made[f'past {k}'] for k in range(len(made) - 1))
    blocks.append(made['samples'])
    meter.at(start + length, skipped=kept)
  return np.concatenate(blocks, axis=1)[:, : total * codec.model.hop_length]


def _groups(
  independent: bool, num_rows: int, num_windows: int
) -> list[list[tuple[int, int]]]:
  """Which (row, window) go through a stage together."""
  if not independent:
    return [[(r, w) for r in range(num_rows)] for w in range(num_windows)]
  pairs = list(itertools.product(range(num_rows), range(num_windows)))
  size = min(len(pairs), MAX_CHUNKS)
  # The last group is filled up with its last pair: one shape, one program.
  pairs += pairs[-1:] * (-len(pairs) % size)
  return [pairs[k : k + size] for k in range(0, len(pairs), size)]


def _row_keys(seed: Seeds, count: int) -> jax.Array:
  """The keys of pieces, one a row."""
  if not isinstance(seed, Sequence):
    seed = [(seed, row) for row in range(count)]
  return jnp.stack(
    [jax.random.fold_in(jax.random.key(one), row) for one, row in seed]
  )


def _window_keys(keys: jax.Array, stage: int, places: np.ndarray) -> jax.Array:
  """The keys of windows of a stage, one a row."""
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys, stage)
  return jax.vmap(jax.random.fold_in)(keys, jnp.asarray(places))
