"""The generator: a conditioning -> tokens -> waveform, of any length.

  mulan [B, 12] -> semantic [B, Ts] -> coarse [B, 2 Ts, 4]
                -> fine [B, 2 Ts, 8] -> waveform [B, S]

or, with a parallel LM, semantic -> parallel [B, 2 Ts, 12] -> waveform.
A stage whose crop is shorter than the piece runs in windows (`windows`). A
row's tokens depend on the seed and its own number alone, not on its company.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.inputs import check_seconds
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.piece import Piece, reads_semantic
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.cascade.stage_run import (
  STAGES,
  AnySampler,
  Call,
  Given,
  StageRun,
)
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import Keep, unkept
from musiclm_jax.contracts.progress import ProgressCallback
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.parallel_lm.sampler import ParallelSampler
from musiclm_jax.stages import LANGUAGE_MODELS
from musiclm_jax.token_lm.sampler import Draft, Sampler

Seeds = int | Sequence[tuple[int, int]]


class Generator:
  """Makes music with three token LMs, or one and a parallel LM, and a codec."""

  def __init__(
    self,
    networks: Mapping[str, Network],
    weights: DType = 'float32',
    drafts: Mapping[str, Draft] | None = None,
  ):
    """Takes the networks; nothing is compiled before it is needed.

    Args:
      networks: `'soundstream'`, `'semantic'`, `'coarse'`, `'fine'` -> network,
        possibly more, all on one mesh. Where there is `'parallel'`, it takes
        the place of the last two.
      weights: Type of the language models' kernels on the device; see
        `decoding_weights.prepare`.
      drafts: Stage -> what guesses tokens there; see `drafts.read`.
    """
    drafts = drafts or {}
    self._networks = networks
    stages = LANGUAGE_MODELS
    if 'parallel' in networks:
      stages = ('semantic', 'parallel')
    self._samplers: dict[str, AnySampler] = {}
    for stage in stages:
      network, kind, how = networks[stage], ParallelSampler, {}
      if stage in LANGUAGE_MODELS:
        kind, how = Sampler, {'draft': drafts.get(stage)}
      self._samplers[stage] = kind(
        network.model,
        network.weights.params,
        mesh=network.mesh,
        weights=weights,
        **how,
      )
    self._layouts = {s: one.lm.layout for s, one in self._samplers.items()}

  @property
  def reads_semantic(self) -> bool:
    """Whether semantic tokens condition the stage after them."""
    return reads_semantic(self._layouts)

  @property
  def least_seconds(self) -> float:
    """Music that `make_stage` must be given tokens of: the longest crop."""
    later = [la for s, la in self._layouts.items() if s != 'semantic']
    crops = [layout.predicted for layout in later]
    return max(crop.num_frames / crop.frame_rate for crop in crops)

  @property
  def melody_stages(self) -> tuple[str, ...]:
    """The stages that have learned to follow a melody."""
    return tuple(stage for stage, la in self._layouts.items() if la.melody)

  def generate(
    self, conditioning: Conditioning, **how: Any
  ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Generates a batch of pieces.

    Args:
      conditioning: Of B pieces.
      **how: See `piece`.

    Returns:
      The waveform, float32 [B, S] in [-1, 1] at 24 kHz, S exactly as asked;
      and tokens, `semantic` int32 [B, Ts] and `acoustic` [B, Ta, Q], as long
      as the waveform, rounded up; without `semantic` where no stage reads it.

    Raises:
      UsageError: See `piece`.
    """
    piece = self.piece(conditioning, **how)
    waveform = piece.all()
    return waveform, piece.tokens()

  def piece(
    self,
    conditioning: Conditioning,
    *,
    seconds: float,
    seed: Seeds,
    sampling: SamplingConfig,
    begun: Mapping[str, np.ndarray] | None = None,
    keep: Keep = unkept,
    progress: ProgressCallback | None = None,
  ) -> Piece:
    """Begins a batch of pieces, to be made at once or while they are heard.

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

    Raises:
      UsageError: If the length is out of bounds, or no stage follows a melody.
    """
    if conditioning.melody and not self.melody_stages:
      raise UsageError(
        'the language models of this bundle follow no melody: leave --melody '
        'out'
      )
    codec = self._networks['soundstream'].model
    samples = check_seconds(seconds, codec.hop_length * codec.frame_rate)
    count = len(conditioning)
    rows = self._rows(count)
    keys = _row_keys(seed, count, rows)
    given = self._begun(begun) if begun else {}
    call = Call(
      conditioning.padded(rows), keys, sampling, given, keep, progress
    )
    return Piece(self._networks, self._samplers, call, samples, count)

  def _rows(self, count: int) -> int:
    """Rows of so many pieces: as many on each device."""
    shards = self._networks['soundstream'].shards
    return -(-count // shards) * shards

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
      name: `semantic`, `coarse`, `fine` or, where there is one, `parallel`.
      conditioning: Of B pieces.
      read: For `coarse` and `parallel` semantic tokens, int [B, Ts], which a
        stage that reads none ignores; for `fine` the coarse levels, int
        [B, Ta, Q].
      frames: Of the piece, at the codec's frame rate.
      seed: Of `generate`.
      sampling: How to draw.

    Returns:
      int32 [B, T, Q]: T frames at the stage's rate or, where the next stage
      must see more, as many as that.

    Raises:
      UsageError: If the tokens are of less than `least_seconds`.
    """
    stage = STAGES[name]
    total = Piece.totals(self._layouts, frames)[name]
    if name == 'coarse' and not self.reads_semantic:
      read = None
    least = max(total, stage.crop(self._layouts[name]))
    if read is not None and read.shape[1] < least:
      raise UsageError(
        f'the {name} stage must see {self.least_seconds:g} s of music: give '
        f'so much, got {read.shape[1]} frames of {stage.reads} tokens'
      )
    count = len(conditioning)
    rows = self._rows(count)
    keys = _row_keys(seed, count, rows)
    if read is not None:
      more = ((0, rows - count), *((0, 0),) * (read.ndim - 1))
      read = np.pad(read, more, 'edge')
    run = StageRun(
      name,
      self._networks[name],
      self._samplers[name],
      Call(conditioning.padded(rows), keys, sampling),
      total,
      None if read is None else Given(read),
    )
    run.ensure(run.codes.shape[1])
    return run.codes[:count]

  def _begun(self, tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cuts tokens of music into what each stage would have made of it."""
    begun = {'semantic': tokens['semantic'][:, None]}
    for name, layout in self._layouts.items():
      if name != 'semantic':
        first, levels = (
          layout.predicted.first_level,
          layout.predicted.num_levels,
        )
        begun[name] = tokens['acoustic'][:, first : first + levels]
    return begun


def _row_keys(seed: Seeds, count: int, rows: int) -> jax.Array:
  """The keys of pieces, one a row, the last one's again for further rows."""
  if not isinstance(seed, Sequence):
    seed = [(seed, row) for row in range(count)]
  seed = [*seed, *[seed[-1]] * (rows - count)]
  return jnp.stack(
    [jax.random.fold_in(jax.random.key(one), row) for one, row in seed]
  )
