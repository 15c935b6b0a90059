"""What is probed: layers of the network, the same untrained, front ends."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import linen as nn
from scipy import fft

from musiclm_jax import stages
from musiclm_jax.cascade.networks import Network
from musiclm_jax.metrics import probe
from musiclm_jax.nn.conformer import Conformer
from musiclm_jax.w2v_bert import frontend
from musiclm_jax.w2v_bert.features import PLAYER, SemanticFeatures
from musiclm_jax.w2v_bert.model import W2vBert

RATE = 25.0
_BATCH = 8
_MODULES = {'contrastive': 'contrastive', 'masked': 'masked_prediction'}

# Waveforms [B, S] -> layer -> features [B, T, D]
Layers = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def representations(network: Network) -> dict[str, Layers]:
  """`trained`, `untrained` (same statistics of the input) and `front_end`."""
  example = {'waveform': np.zeros((1, 48_000), np.float32)}
  fresh, _ = jax.jit(stages.build(network.config).init)(
    jax.random.key(0), example
  )
  return {
    'trained': _layers(network, network.params),
    'untrained': _layers(network, nn.unbox(fresh)),
    'front_end': _front_end,
  }


def layer_names(network: Network, representation: str) -> list[str]:
  """Names in the order of depth."""
  if representation == 'front_end':
    return ['log_mel', 'mfcc', 'cepstra']
  return names(network.model)


def names(semantic: SemanticFeatures) -> list[str]:
  """Names the network's layers from the bottom up."""
  return [
    *('input', 'subsampling', 'projection'),
    *(f'contrastive_{i + 1}' for i in range(semantic.model.contrastive_blocks)),
    *(f'masked_{i + 1}' for i in range(semantic.model.masked_blocks)),
  ]


def token_layer(semantic: SemanticFeatures) -> str:
  """Names the layer whose features become semantic tokens."""
  blocks = names(semantic)[2:]
  return blocks[sum(semantic.depths.values())]


def layers(
  semantic: SemanticFeatures,
  params: Mapping,
  collections: Mapping,
  waveform: np.ndarray,
) -> dict[str, jax.Array]:
  """Computes the output of every layer, nothing hidden.

  Which block should make the semantic tokens is a question to one's own
  data; AudioLM (§4.1) takes the seventh of twelve, chosen on speech.

  Args:
    semantic: The network.
    params: By player.
    collections: By player.
    waveform: float32 [B, S] at 24 kHz.

  Returns:
    Each of `names`, float32 [B, S // 960, D], D its own below the
    projection; `input` is what the network reads in 40 ms, side by side.
    That of `token_layer` is what `SemanticFeatures.features` returns.
  """
  model, own = semantic.model, params[PLAYER]
  statistics = collections[PLAYER].get('batch_stats', {})
  mels = semantic.inputs(collections, waveform)
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
    attention_frames=model.attention_frames,
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


def _below_the_blocks(model: W2vBert, mels: jax.Array) -> tuple:
  read = model.network_input(mels)
  frames = mels.shape[1] // frontend.MELS_PER_FRAME
  latents = model.subsampling(read)
  return (
    read.reshape(len(mels), frames, -1),
    latents,
    model.projection(latents),
  )


def in_batches(function: Callable, waveforms: np.ndarray) -> list:
  """Applies a function to rows [8, S] at a time; results row by row."""
  out = []
  for first in range(0, len(waveforms), _BATCH):
    rows = waveforms[first : first + _BATCH]
    padded = np.zeros((_BATCH, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    result = jax.device_get(function(padded))
    out += [
      jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), result)
      for i in range(len(rows))
    ]
  return out


def tokenizers(networks: Mapping[str, Network]) -> dict[str, Callable]:
  """Waveforms [B, S] -> `semantic` [B, T, 1] and `acoustic` [B, 2T, Q]."""
  w2v, kmeans, codec = (
    networks[stage] for stage in ('w2v_bert', 'kmeans', 'soundstream')
  )

  @jax.jit
  def semantic(rows):
    features = w2v.model.features(w2v.params, w2v.collections, rows)
    return kmeans.model.assign(kmeans.collections, features)

  @jax.jit
  def acoustic(rows):
    return codec.model.encode(codec.params, codec.collections, rows)

  return {'semantic': semantic, 'acoustic': acoustic}


def _layers(network: Network, params: Mapping) -> Layers:
  return jax.jit(
    lambda rows: layers(network.model, params, network.collections, rows)
  )


def _front_end(rows: np.ndarray) -> dict[str, np.ndarray]:
  """Frames of the same middle as the network's.

  `cepstra` are all 64 coefficients of `log_mel`, each of which weighs the same
  to a k-means: pitch, which is many fine ones, more than the level, which is
  one.
  """
  half = round(probe.SAMPLE_RATE / RATE / 2)
  count = rows.shape[1] // (2 * half)
  mels = np.stack(
    [
      probe.log_mel_frames(np.append(row[half:], np.zeros(half)), RATE)
      for row in rows
    ]
  )[:, :count]
  cepstra = fft.dct(mels, axis=-1, norm='ortho')
  return {
    'log_mel': mels.astype(np.float32),
    'mfcc': np.stack([probe.mfcc_frames(mel) for mel in mels]),
    'cepstra': cepstra.astype(np.float32),
  }
