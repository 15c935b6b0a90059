"""The last step: acoustic codes [B, T, Q] -> waveform [B, T * hop], any T.

Short streams are decoded at once. A long one is decoded in blocks, each with
more codes before it than the causal decoder can hear, which gives the same
samples with bounded memory.
"""

import jax
import numpy as np

from musiclm_jax.cascade.networks import Network
from musiclm_jax.contracts.kept_parts import Keep, unkept
from musiclm_jax.soundstream.codec import Codec

BLOCK_FRAMES = 1500  # 30 s at 50 Hz
CONTEXT_FRAMES = 100  # the decoder hears about 20


def decode(
  codec: Network[Codec],
  codes: np.ndarray,
  block_frames: int = BLOCK_FRAMES,
  context_frames: int = CONTEXT_FRAMES,
  keep: Keep = unkept,
) -> np.ndarray:
  """Decodes a whole stream.

  Args:
    codec: The `soundstream` network.
    codes: int [B, T, Q].
    block_frames: New frames in a block.
    context_frames: Frames before it that are decoded again and dropped.
    keep: Keeps the samples of each block.

  Returns:
    float32 [B, T * hop].
  """
  function = jax.jit(codec.model.decode)
  length = min(codes.shape[1], context_frames + block_frames)
  hop = codec.model.hop_length
  blocks, done = [], 0
  while done < codes.shape[1]:
    # The first block has no context and is all new; the last one is moved
    # back, so that all blocks have one shape.
    start = max(min(done - context_frames, codes.shape[1] - length), 0)
    part = codes[:, start : start + length]
    block = keep(
      f'decoded from {start}',
      lambda part=part: {
        'samples': jax.device_get(
          function(codec.params, codec.collections, part)
        )
      },
    )
    blocks.append(block['samples'][:, (done - start) * hop :])
    done = start + length
  return np.concatenate(blocks, axis=1)
