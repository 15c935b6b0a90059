"""What is probed: layers of the network, the same untrained, front ends."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import linen as nn
from scipy import fft

from musiclm_jax import stages
from musiclm_jax.cascade.networks import Network
from musiclm_jax.metrics import probe

RATE = 25.0
_BATCH = 8

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
  return network.model.layer_names()


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
    lambda rows: network.model.layers(params, network.collections, rows)
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
