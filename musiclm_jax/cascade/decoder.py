"""The codec's decoder: codes [B, T, Q] -> waveform [B, T * hop], in blocks.

All blocks are of one shape and hand on their state, so that a waveform of any
length needs one program and bounded memory, whether it is made at once or
while it is heard.
"""

import functools

import jax
import numpy as np

from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.kept_parts import Arrays, Keep, holds, unkept
from musiclm_jax.contracts.progress import Meter, ProgressCallback

BLOCK_FRAMES = 50  # 1 s at 50 Hz
_KNEE = 0.9  # of full scale, above which samples are bent


class BlockDecoder:
  """Decodes one block after another.

  Attributes:
    done: Frames that are decoded.
  """

  def __init__(
    self, codec: Network, keep: Keep = unkept, block_frames: int = BLOCK_FRAMES
  ):
    """Begins a waveform.

    Args:
      codec: The `soundstream` network.
      keep: Keeps the samples and the state of each block.
      block_frames: Frames in a block.
    """
    self.done = 0
    self._codec, self._keep, self._length = codec, keep, block_frames
    self._pasts: tuple | None = None

  def __call__(self, codes: np.ndarray) -> tuple[np.ndarray, bool]:
    """Decodes the next frames.

    Args:
      codes: [B, T, Q], T as long as a block, or less: then it is the last one.

    Returns:
      float32 [B, T * hop], and whether they were kept.
    """
    name = f'decoded from {self.done}{self._codec.where}'
    kept = holds(self._keep, name)
    made = self._keep(name, functools.partial(self._decode, codes))
    self._pasts = tuple(made[f'past {k}'] for k in range(len(made) - 1))
    self.done += codes.shape[1]
    hop = self._codec.model.hop_length
    return made['samples'][:, : codes.shape[1] * hop], kept

  def _decode(self, codes: np.ndarray) -> Arrays:
    # What follows changes nothing before it.
    extra = self._length - codes.shape[1]
    codes = np.pad(codes, ((0, 0), (0, extra), (0, 0)))
    samples, new = jax.device_get(
      _step(self._codec.model)(
        self._codec.params,
        self._codec.collections,
        *sharding.place_rows((codes, self._pasts), self._codec.mesh),
      )
    )
    return {'samples': samples} | {f'past {k}': p for k, p in enumerate(new)}


@functools.lru_cache
def _step(codec):
  """The codec's `decode_step`, compiled once."""
  return jax.jit(codec.decode_step)


def decode(
  codec: Network,
  codes: np.ndarray,
  block_frames: int = BLOCK_FRAMES,
  keep: Keep = unkept,
  progress: ProgressCallback | None = None,
) -> np.ndarray:
  """Decodes all of a piece.

  Args:
    codec: The `soundstream` network.
    codes: int [B, T, Q], any T.
    block_frames: Frames in a block.
    keep: Keeps the samples and the state of each block.
    progress: Takes events.

  Returns:
    float32 [B, T * hop].
  """
  total = codes.shape[1]
  meter = Meter('decoding', total, 'frames', progress)
  decoder, blocks = BlockDecoder(codec, keep, block_frames), []
  for start in range(0, total, block_frames):
    samples, kept = decoder(codes[:, start : start + block_frames])
    blocks.append(samples)
    meter.at(decoder.done, skipped=kept)
  return np.concatenate(blocks, axis=1)


def limit(waveform: np.ndarray) -> np.ndarray:
  """Bends what is louder than 0.9 so that it stays within [-1, 1].

  Each sample by itself, so that a beginning sounds as it does in the whole.
  """
  over = np.maximum(np.abs(waveform) - _KNEE, 0.0)
  room = 1.0 - _KNEE
  bent = np.sign(waveform) * (_KNEE + room * np.tanh(over / room))
  return np.where(over > 0, bent, waveform).astype(np.float32)
