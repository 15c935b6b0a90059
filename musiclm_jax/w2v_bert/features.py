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
from musiclm_jax.nn.conformer import Conformer
from musiclm_jax.nn.precision import exact
from musiclm_jax.w2v_bert import frontend
from musiclm_jax.w2v_bert.frontend import standardise
from musiclm_jax.w2v_bert.model import W2vBert

PLAYER = 'w2v_bert'
CODEBOOK_PLAYER = 'kmeans'
_MODULES = {'contrastive': 'contrastive', 'masked': 'masked_prediction'}


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
    variables = dict(variables_of(params, own))
    for name in variables.keys() & {'params', 'batch_stats'}:
      if 'masked_prediction' in variables[name]:
        first = jax.tree.map(
          lambda leaf: leaf[: self.feature_block],
          variables[name]['masked_prediction'],
        )
        variables[name] = {**variables[name], 'masked_prediction': first}
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

  def layer_names(self) -> list[str]:
    """Names the layers from the bottom up, for probes."""
    return [
      *('input', 'subsampling', 'projection'),
      *(f'contrastive_{i + 1}' for i in range(self.model.contrastive_blocks)),
      *(f'masked_{i + 1}' for i in range(self.model.masked_blocks)),
    ]

  @property
  def token_layer(self) -> str:
    """Names the layer whose features become semantic tokens."""
    return f'masked_{self.feature_block}'

  def layers(
    self, params: Params, collections: Collections, waveform: Waveform
  ) -> dict[str, Latents]:
    """Computes the output of every layer, nothing hidden.

    Which block should make the semantic tokens is a question to one's own
    data; AudioLM (§4.1) takes the seventh of twelve, chosen on speech.

    Args:
      params: By player.
      collections: By player.
      waveform: float32 [B, S] at 24 kHz.

    Returns:
      Each of `layer_names`, float32 [B, S // 960, D], D its own below the
      projection; `input` is what the network reads in 40 ms, side by side.
      That of `token_layer` is what `features` returns.
    """
    model, own = self.model, params[PLAYER]
    statistics = collections[PLAYER].get('batch_stats', {})
    mels = self.inputs(collections, waveform)
    read, latents, x = model.apply(
      {'params': own}, mels, method=_below_the_blocks
    )
    found = {'input': read, 'subsampling': latents, 'projection': x}
    block = Conformer(
      1,
      model.num_heads,
      model.mlp_dim,
      model.kernel_size,
      model.conv_norm,
      dtype=model.dtype,
    )
    counts = model.contrastive_blocks, model.masked_blocks
    for (name, module), count in zip(_MODULES.items(), counts, strict=True):
      stacked = {
        'params': own[module],
        'batch_stats': statistics.get(module, {}),
      }
      for i in range(count):
        x = block.apply(jax.tree.map(lambda a, i=i: a[i : i + 1], stacked), x)
        found[f'{name}_{i + 1}'] = x
    return {name: layer.astype('float32') for name, layer in found.items()}


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


def _below_the_blocks(
  model: W2vBert, mels: Spectrogram
) -> tuple[Latents, Latents, Latents]:
  read = model.network_input(mels)
  frames = mels.shape[1] // frontend.MELS_PER_FRAME
  latents = model.subsampling(read)
  return (
    read.reshape(len(mels), frames, -1),
    latents,
    model.projection(latents),
  )
