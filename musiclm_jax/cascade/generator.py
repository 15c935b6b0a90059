"""The generator: MuLan tokens, perhaps a melody -> waveform, of any length.

  mulan [B, 12] -> semantic [B, Ts] -> coarse [B, 2 Ts, 4]
                -> fine [B, 2 Ts, 8] -> waveform [B, S]

A stage whose crop is shorter than the piece runs in windows (`windows`). A
row's tokens depend on the seed and its own number alone, not on its company.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.cascade.decoder import decode
from musiclm_jax.cascade.length import check_seconds
from musiclm_jax.cascade.networks import Network
from musiclm_jax.cascade.settings import Settings
from musiclm_jax.cascade.windows import Window, chunks, windows
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import Arrays, Keep, unkept
from musiclm_jax.token_lm.layout import TICK_RATE
from musiclm_jax.token_lm.task import UNKNOWN

MAX_FINE_ROWS = 32  # chunks that the fine stage makes at once
NETWORKS = ('soundstream', 'semantic', 'coarse', 'fine')
Melody = Callable[[float, int], np.ndarray]  # see `melody_prompt`
_STAGE_KEYS = {'semantic': 0, 'coarse': 1, 'fine': 2}


@dataclasses.dataclass(frozen=True)
class Music:
  """What was generated.

  Attributes:
    waveform: float32 [B, S] in [-1, 1] at 24 kHz, S exactly as asked.
    semantic: int32 [B, Ts], at least as long as the waveform.
    acoustic: int32 [B, Ta, Q], as long as the waveform, rounded up.
  """

  waveform: np.ndarray
  semantic: np.ndarray
  acoustic: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Run:
  """One call of the generator.

  Attributes:
    mulan: What conditions, int32 [B, 12].
    keys: One a row [B].
    settings: How to draw.
    melody: See `Generator.generate`.
    keep: Keeps what each window makes.
  """

  mulan: jax.Array
  keys: jax.Array
  settings: Settings
  melody: Melody | None
  keep: Keep

  def window_keys(self, stage: str, number: int) -> jax.Array:
    """The keys of a window of a stage, one a row [B]."""
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return fold(fold(self.keys, _STAGE_KEYS[stage]), number)


class Generator:
  """Makes music from MuLan tokens with three token LMs and a codec."""

  def __init__(
    self,
    networks: Mapping[str, Network],
    report: Callable[[str], None] = lambda line: None,
  ):
    """Takes the networks; nothing is compiled before it is needed.

    Args:
      networks: `NETWORKS` -> network, possibly more.
      report: Gets a line whenever a window of a stage is done.
    """
    self._networks = networks
    self._report = report
    self._layouts = {
      stage: networks[stage].task.lm.layout for stage in _STAGE_KEYS
    }
    self._samplers: dict[tuple, Callable] = {}

  def generate(
    self,
    mulan: np.ndarray,
    *,
    seconds: float,
    seed: int,
    settings: Settings,
    melody: Melody | None = None,
    keep: Keep = unkept,
  ) -> Music:
    """Generates one piece for each row of MuLan tokens.

    Args:
      mulan: int [B, 12], of texts or of audio.
      seconds: Length, in (0, 3600].
      seed: Another seed gives other music.
      settings: Temperatures, guidance, and the MuLan levels that are heard:
        0 is the unconditional model, which hears none and needs no guidance.
      melody: Tells the melody tokens [N, Q] of a stretch of the music, given
        its beginning in seconds and N, the same for all rows. Without, stages
        that have learned to hear one get the mask.
      keep: Keeps the windows of a call, so that one with the same arguments
        goes on after an interruption.

    Raises:
      UsageError: If the length is out of bounds, or no stage hears melodies.
    """
    if melody and not self.melody_stages:
      raise UsageError(
        'the language models of this bundle hear no melody: leave --melody out'
      )
    codec = self._networks['soundstream']
    hop = codec.task.hop_length
    samples = check_seconds(seconds, hop * codec.task.frame_rate)
    frames = math.ceil(samples / hop)
    mulan = jnp.asarray(mulan, jnp.int32)
    run = _Run(mulan, _row_keys(seed, len(mulan)), settings, melody, keep)
    # Each stage makes as much as the next one must see.
    fine = self._layouts['fine'].predicted.num_frames
    ticks = math.ceil(max(frames, fine) / 2)
    heard = max(ticks, self._coarse_ticks)
    semantic = self._semantic(run, heard)
    coarse = self._coarse(run, semantic, ticks)
    acoustic = self._fine(run, coarse, frames)
    self._report('decoding')
    waveform = decode(codec, acoustic, keep=keep)[:, :samples]
    peak = np.abs(waveform).max(axis=1, keepdims=True)
    return Music(
      waveform=waveform / np.maximum(peak, 1.0),
      semantic=semantic[:, : math.ceil(frames / 2)],
      acoustic=acoustic,
    )

  @property
  def melody_stages(self) -> tuple[str, ...]:
    """The stages that have learned to hear a melody."""
    return tuple(stage for stage, la in self._layouts.items() if la.melody)

  @property
  def _coarse_ticks(self) -> int:
    """Semantic frames in a crop of the coarse stage."""
    return self._layouts['coarse'].predicted.num_frames // 2

  def _tune(self, run: _Run, stage: str, start: int) -> dict[str, np.ndarray]:
    """What a window of a stage that begins at a tick hears of the melody."""
    segment = self._layouts[stage].melody
    if segment is None:
      return {}
    shape = (segment.num_frames, segment.num_levels)
    codes = np.full(shape, UNKNOWN, np.int32)
    if run.melody:
      codes = run.melody(start / TICK_RATE, segment.num_frames)
    return {'melody': np.broadcast_to(codes, (len(run.mulan), *shape))}

  def _semantic(self, run: _Run, total: int) -> np.ndarray:
    """Makes `total` semantic frames, [B, Ts]."""
    plan = windows(total, self._layouts['semantic'].predicted.num_frames)
    codes = np.zeros((len(run.mulan), 0, 1), np.int32)
    for number, window in enumerate(plan):
      made = self._sample(
        'semantic',
        {'mulan': run.mulan, **self._tune(run, 'semantic', window.start)},
        codes[:, window.start :],
        window.prefix + window.frames,
        run.window_keys('semantic', number),
        f'{number + 1}/{len(plan)}',
        run,
      )
      codes = np.concatenate([codes, made[:, window.prefix :]], axis=1)
    return codes[..., 0]

  def _coarse(self, run: _Run, semantic: np.ndarray, ticks: int) -> np.ndarray:
    """Makes coarse codes [B, Ta, 4] window by window, each hearing its time.

    Two acoustic frames are one semantic frame, exactly.
    """
    plan = windows(ticks, self._coarse_ticks)
    levels = self._layouts['coarse'].predicted.num_levels
    codes = np.zeros((len(run.mulan), 0, levels), np.int32)
    for number, window in enumerate(plan):
      heard = semantic[:, window.start : window.start + self._coarse_ticks]
      made = self._sample(
        'coarse',
        {
          'mulan': run.mulan,
          'semantic': heard,
          **self._tune(run, 'coarse', window.start),
        },
        codes[:, 2 * window.start :],
        2 * (window.prefix + window.frames),
        run.window_keys('coarse', number),
        f'{number + 1}/{len(plan)}',
        run,
      )
      codes = np.concatenate([codes, made[:, 2 * window.prefix :]], axis=1)
    return codes

  def _fine(self, run: _Run, coarse: np.ndarray, frames: int) -> np.ndarray:
    """Adds the fine levels to `frames` frames of coarse codes, [B, Ta, Q].

    Chunks do not depend on each other, so they go through as rows of one
    batch, of all pieces together.
    """
    crop = self._layouts['fine'].predicted.num_frames
    plan = chunks(max(frames, crop), crop)
    rows = [(row, window) for row in range(len(run.mulan)) for window in plan]
    heard = np.stack([coarse[row, w.start : w.start + crop] for row, w in rows])
    chunk_keys = jnp.stack(
      [run.window_keys('fine', number) for number in range(len(plan))], 1
    ).reshape(-1)
    of_row = run.mulan[np.asarray([row for row, _ in rows])]
    size = min(len(rows), MAX_FINE_ROWS)
    made = []
    for first in range(0, len(rows), size):
      # The last group is filled up with its last row: one shape, one program.
      group = np.minimum(np.arange(first, first + size), len(rows) - 1)
      codes = self._sample(
        'fine',
        {'mulan': of_row[group], 'acoustic': heard[group]},
        np.zeros((size, 0, self._layouts['fine'].predicted.num_levels), int),
        min(frames, crop),
        chunk_keys[group],
        f'{first // size + 1}/{math.ceil(len(rows) / size)}',
        run,
      )
      made.extend(codes[: len(rows) - first])
    fine = _join(made, rows, len(run.mulan), frames)
    return np.concatenate([coarse[:, :frames], fine], axis=2)

  def _sample(
    self, stage, conditioning, prefix, frames, keys, at, run
  ) -> np.ndarray:
    """Makes one window of a stage, or finds it kept, int32 [B, frames, Q]."""
    draw = functools.partial(self._draw, stage, conditioning, prefix, frames)
    made = run.keep(f'{stage} {at}', lambda: draw(keys, at, run.settings))
    return made['codes']

  def _draw(
    self, stage, conditioning, prefix, frames, keys, at, settings
  ) -> Arrays:
    """Runs one window of a stage and reports it."""
    levels, guidance = settings.mulan_levels, settings.guidance
    key = (stage, prefix.shape, frames, levels, guidance)
    first = key not in self._samplers
    if first:
      self._report(f'{stage}: compiling')
      self._samplers[key] = jax.jit(
        functools.partial(
          self._networks[stage].task.generate,
          num_frames=frames,
          num_mulan_levels=levels,
          guidance=guidance,
        )
      )
    began = time.monotonic()
    codes = jax.device_get(
      self._samplers[key](
        self._networks[stage].params,
        conditioning,
        keys=keys,
        temperature=jnp.float32(getattr(settings, f'temperature_{stage}')),
        prefix=jnp.asarray(prefix, jnp.int32),
      )
    )
    seconds = time.monotonic() - began
    count = codes[:, prefix.shape[1] :].size
    self._report(
      f'{stage}: window {at}, {count} tokens in {seconds:.1f} s'
      + (' with compiling' if first else f', {count / seconds:.0f} a second')
    )
    return {'codes': codes}


def _row_keys(seed: int, count: int) -> jax.Array:
  fold = jax.vmap(jax.random.fold_in, (None, 0))
  return fold(jax.random.key(seed), jnp.arange(count))


def _join(
  made: list[np.ndarray],
  rows: list[tuple[int, Window]],
  count: int,
  frames: int,
) -> np.ndarray:
  """Puts the new frames of all chunks where they belong."""
  out = np.zeros((count, frames, made[0].shape[-1]), np.int32)
  for codes, (row, window) in zip(made, rows, strict=True):
    new = codes[window.prefix :]
    start = window.start + window.prefix
    out[row, start : start + len(new)] = new
  return out
