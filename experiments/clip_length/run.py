"""Do semantic tokens of the same music depend on the length of its clip?

  python experiments/clip_length/run.py --workdir=DIR --corpus=DIR

Features of 30 s of each piece, and of the 10 s in their middle alone, by a
trained w2v-BERT and by the same one untrained; tokens by k-means on frames of
the 30 s of other pieces. Printed is the share of equal tokens: of all of the
10 s, by distance from the nearer edge, and further away than the network says
that its features see (`SemanticFeatures.context_frames`).
"""

import argparse
import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from musiclm_jax import stages
from musiclm_jax.cascade import networks
from musiclm_jax.data.sources import open_source
from musiclm_jax.nn import kmeans
from musiclm_jax.w2v_bert.features import (
  CODEBOOK_PLAYER,
  SemanticCodebook,
  SemanticFeatures,
)
from musiclm_jax.w2v_bert.frontend import (
  add_frames,
  init_statistics,
  standardise,
)

FRAME, RATE = 960, 25
WHOLE, ALONE = 30 * RATE, 10 * RATE
START = (WHOLE - ALONE) // 2 + 3  # on no multiple of a block of attention
# Seconds from the nearer edge of the 10 s.
DISTANCES = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))


def clips(corpus: str, split: str, count: int) -> np.ndarray:
  """Reads 30 s from the fifth second of each piece, [N, S]."""
  source = open_source(f'rendered_music:{corpus}', split)
  samples = WHOLE * FRAME
  return np.stack(
    [
      source.read(i, 5 * source.sample_rate, samples)
      for i in range(min(count, len(source)))
    ]
  )


def fit(features: np.ndarray, size: int) -> dict:
  """Standardises frames and finds `size` centroids among them."""
  statistics = add_frames(init_statistics(features.shape[-1]), features)
  rows = standardise(statistics, features).reshape(-1, features.shape[-1])
  rows = jax.random.permutation(jax.random.key(0), rows)[: 40 * size]
  seeds = kmeans.kmeans_plus_plus(jax.random.key(1), rows, size)
  centroids = kmeans.lloyd(rows, seeds, 10)
  return {CODEBOOK_PLAYER: {'statistics': statistics, 'centroids': centroids}}


def measure(
  network: networks.Network, params: dict, corpus: str, size: int
) -> dict:
  """Returns shares of equal tokens, by distance from the nearer edge."""
  features = jax.jit(
    functools.partial(network.model.features, params, network.collections)
  )
  training, held_out = (
    clips(corpus, split, count)
    for split, count in (('train', 24), ('validation', 20))
  )
  codebook = SemanticCodebook(size)
  book = fit(np.concatenate([features(x[None]) for x in training]), size)
  equal = []
  for clip in held_out:
    part = clip[START * FRAME : (START + ALONE) * FRAME]
    whole = features(clip[None])[:, START : START + ALONE]
    one, other = (
      np.asarray(codebook.assign(book, jnp.asarray(x)))[0, :, 0]
      for x in (features(part[None]), whole)
    )
    equal.append(one == other)
  equal = np.mean(equal, axis=0)
  frame = np.arange(ALONE)
  edge = np.minimum(frame, ALONE - 1 - frame)
  result = {'all': float(equal.mean())}
  for low, high in DISTANCES:
    near = (edge >= low * RATE) & (edge < high * RATE)
    result[f'{low}-{high} s'] = float(equal[near].mean())
  context = network.model.context_frames
  if context is not None and (edge >= context).any():
    result['beyond'] = float(equal[edge >= context].mean())
  return result


def main() -> None:
  """Measures and prints a line of JSON for each network."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--codebook_size', type=int, default=256)
  parser.add_argument(
    '--attention_seconds',
    type=float,
    nargs='*',
    help="in the place of the network's own, which was trained with another",
  )
  options = parser.parse_args()
  stored = networks.read(options.workdir, 'w2v_bert')
  own = stored.config['model'].get('attention_seconds')
  for seconds in options.attention_seconds or [own]:
    seconds = seconds or None
    network = networks.build(stored)
    model = network.model.model.clone(attention_seconds=seconds)
    network = dataclasses.replace(network, model=SemanticFeatures(model))
    task = stages.build(stored.config)
    example = {'waveform': np.zeros((1, 48_000), np.float32)}
    fresh = nn.unbox(jax.jit(task.init)(jax.random.key(0), example)[0])
    for name, params in (('trained', network.params), ('untrained', fresh)):
      found = measure(network, params, options.corpus, options.codebook_size)
      context = network.model.context_frames
      about = {
        'weights': name,
        'attention_seconds': seconds,
        'trained_with': own,
        'context_seconds': context and context / RATE,
      }
      print(json.dumps({**about, 'equal': found}), flush=True)


if __name__ == '__main__':
  main()
