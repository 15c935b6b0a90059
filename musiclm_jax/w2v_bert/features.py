"""w2v-BERT applied: waveform [B, S] -> features [B, T, D] -> tokens [B, T, 1].

Features leave one of its blocks, T = S // 960; the nearest of K centroids is
the semantic token of a frame.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from musiclm_jax.contracts.array_types import (
  Codes,
  Latents,
  PyTree,
  Spectrogram,
  Waveform,
)
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.nn import kmeans
from musiclm_jax.nn.precision import exact
from musiclm_jax.w2v_bert import frontend
from musiclm_jax.w2v_bert.frontend import standardise
from musiclm_jax.w2v_bert.model import W2vBert

PLAYER = 'w2v_bert'
CODEBOOK_PLAYER = 'kmeans'
# A minute of frames: what is longer goes through a network whose attention is
# limited window by window.
_WINDOW_FRAMES = 1500


@dataclasses.dataclass(frozen=True)
class SemanticFeatures:
  """The network up to the layer that makes tokens, pure in its weights.

  Where the model's attention is limited (`model.attention_seconds`), the
  tokens of a frame do not depend on the length of its clip: only those nearer
  to an edge than `context_frames` may differ from those of a longer clip.

  Attributes:
    model: The network.
  """

  model: W2vBert
  frame_rate: ClassVar[float] = 25.0
  hop_length: ClassVar[int] = frontend.SAMPLES_PER_FRAME

  @property
  def feature_block(self) -> int:
    """Blocks of the masked-prediction module below the features: 7 of 12."""
    return self.depths['masked_prediction']

  @property
  def depths(self) -> dict[str, int]:
    """Blocks below the features, by module."""
    model, depth = self.model, self.model.feature_depth
    blocks = model.contrastive_blocks + model.masked_blocks
    if depth is None:
      block = max(1, round(7 / 12 * model.masked_blocks))
      depth = model.contrastive_blocks + block
    elif depth > blocks:
      raise UsageError(
        f'feature_depth={depth}: choose at most {blocks}, all blocks'
      )
    contrastive = min(depth, model.contrastive_blocks)
    return {
      'contrastive': contrastive,
      'masked_prediction': depth - contrastive,
    }

  @property
  def context_frames(self) -> int | None:
    """Frames next to an edge whose features may depend on where it is.

    (blocks below the features) · (attention + kernel // 2) + 1, in frames of
    40 ms; see `W2vBert.context_frames`. At `small` 3 · (50 + 2) + 1, 6.28 s.
    None where attention sees the whole clip, as all features do then.
    """
    return self._below.context_frames

  @property
  def _below(self) -> W2vBert:
    """The network without the blocks above the features."""
    return self.model.clone(
      contrastive_blocks=self.depths['contrastive'],
      masked_blocks=self.depths['masked_prediction'],
    )

  @exact
  def features(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> Latents:
    """Computes semantic features [B, S // 960, D], deterministic, unmasked.

    They leave block round(7/12 n) of the masked-prediction module's n
    (AudioLM §4.1), or that of `model.feature_depth`; blocks above it are not
    computed. Where the attention is limited, a clip of more than a minute is
    cut into overlapping windows, one after another: the same features to
    rounding, in memory for one window beside the clip and what comes out.
    """
    frames = waveform.shape[-1] // self.hop_length
    context = self.context_frames
    # At least half of a window is what it was made for.
    size = frames if context is None else max(_WINDOW_FRAMES, 4 * context)
    if frames <= size:
      return self._whole(params, collections, waveform)
    # The last one is moved back to end with the clip: an edge of the clip is
    # an edge of its window, and no other window's edge is looked at.
    starts = [*range(0, frames - size, size - 2 * context), frames - size]

    def at(start: Array) -> Latents:
      window = jax.lax.dynamic_slice_in_dim(
        waveform, start, size * self.hop_length, axis=1
      )
      return self._whole(params, collections, window)

    made = jax.lax.map(at, self.hop_length * jnp.array(starts))
    bounds = [0, *(start + context for start in starts[1:]), frames]
    return jnp.concatenate(
      [
        made[i, :, bounds[i] - start : bounds[i + 1] - start]
        for i, start in enumerate(starts)
      ],
      axis=1,
    )

  def _whole(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> Latents:
    """Features of a waveform that goes through the network at once."""
    own = collections[PLAYER]
    variables = variables_of(params, own)
    for name, part in variables.items():
      first = {
        module: jax.tree.map(lambda leaf, n=depth: leaf[:n], part[module])
        for module, depth in self.depths.items()
        if module in part
      }
      variables[name] = {**part, **first}
    mels = self.inputs(collections, waveform)
    return self._below.apply(variables, mels, method='features')

  def inputs(self, collections: Collections, waveform: Waveform) -> Spectrogram:
    """Computes what the network is given, standardised [B, 4T, M]."""
    return standardise(
      collections[PLAYER]['statistics'], self.log_mels(waveform)
    )

  def log_mels(self, waveform: Waveform) -> Spectrogram:
    """Computes log-mels or cepstra [B, 4T, M], not standardised."""
    mels = frontend.log_mels(waveform, self.model.num_mels)
    return frontend.cepstra(mels) if self.model.num_cepstra else mels


@dataclasses.dataclass(frozen=True)
class SemanticCodebook:
  """The k-means of features, as a pure function of its centroids.

  Attributes:
    codebook_size: K.
  """

  codebook_size: int

  def assign(self, collections: Collections, features: Latents) -> Codes:
    """Finds semantic tokens, int32 [B, T, 1] in [0, K)."""
    own = collections[CODEBOOK_PLAYER]
    x = standardise(own['statistics'], features)
    codes = kmeans.assign(x.reshape(-1, x.shape[-1]), own['centroids'])
    return codes.reshape(*features.shape[:2], 1)


def variables_of(params: Params, own: PyTree) -> dict[str, PyTree]:
  """What the network's `apply` takes, of the player's own collections."""
  # Without BatchNorm they are empty, and a stored network has no empty nodes.
  statistics = own.get('batch_stats', {})
  return {'params': params[PLAYER], 'batch_stats': statistics}
