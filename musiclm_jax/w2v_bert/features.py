"""w2v-BERT applied: waveform [B, S] -> features [B, T, D] -> tokens [B, T, 1].

Features leave one of its blocks, T = S // 960; the nearest of K centroids is
the semantic token of a frame.
"""

import dataclasses
from typing import ClassVar

import jax

from musiclm_jax.contracts.array_types import (
  Codes,
  Latents,
  PyTree,
  Spectrogram,
  Waveform,
)
from musiclm_jax.contracts.task import Collections, Params
from musiclm_jax.nn import kmeans
from musiclm_jax.nn.precision import exact
from musiclm_jax.w2v_bert import frontend
from musiclm_jax.w2v_bert.frontend import standardise
from musiclm_jax.w2v_bert.model import W2vBert

PLAYER = 'w2v_bert'
CODEBOOK_PLAYER = 'kmeans'


@dataclasses.dataclass(frozen=True)
class SemanticFeatures:
  """The network up to the layer that makes tokens, pure in its weights.

  Attributes:
    model: The network.
  """

  model: W2vBert
  frame_rate: ClassVar[float] = 25.0
  hop_length: ClassVar[int] = frontend.SAMPLES_PER_FRAME

  @property
  def feature_block(self) -> int:
    """Blocks of the masked-prediction module below the features: 7 of 12."""
    return max(1, round(7 / 12 * self.model.masked_blocks))

  @exact
  def features(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> Latents:
    """Computes semantic features [B, S // 960, D], deterministic, unmasked.

    They leave block round(7/12 n) of the masked-prediction module's n
    (AudioLM §4.1); blocks above it are not computed.
    """
    own = collections[PLAYER]
    variables = variables_of(params, own)
    for name, part in variables.items():
      if 'masked_prediction' in part:
        first = jax.tree.map(
          lambda leaf: leaf[: self.feature_block], part['masked_prediction']
        )
        variables[name] = {**part, 'masked_prediction': first}
    model = self.model.clone(masked_blocks=self.feature_block)
    mels = self.inputs(collections, waveform)
    return model.apply(variables, mels, method='features')

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
