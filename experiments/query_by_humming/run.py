"""Finds held-out melodies that are hummed, whistled or played by others.

`python experiments/query_by_humming/run.py --workdir=DIR`, DIR being the
workdir of a melody training; writes results.json beside this file.
"""

import argparse
import functools
import json
from pathlib import Path

import baselines
import jax
import numpy as np
from flax import linen as nn

from musiclm_jax import stages
from musiclm_jax.cascade import networks
from musiclm_jax.contracts import errors
from musiclm_jax.rendered_music import melody_takes

TUNES, SECONDS, SPLIT = 64, 4.0, 'test'
FRESH = 3  # seeds whose melodies no decision has seen
SPECTRUM = {  # of the search, two bands a semitone
  'sample_rate': 24_000,
  'window_length': 3072,
  'hop_length': 1920,
  'fft_size': 4096,
  'num_bands': 128,
  'low_hz': 80.0,
  'high_hz': 3200.0,
}


def varieties(unseen: tuple[str, ...]) -> dict[str, melody_takes.Variety]:
  """Who plays the keys, and who the queries of each condition."""
  sung = {'leads': unseen, 'voice_share': 1.0, 'tempo_change': 0.1}
  return {
    'keys': melody_takes.Variety(
      leads=unseen, voice_share=0.0, band_share=0.5, tempo_change=0.0
    ),
    'hum': melody_takes.Variety(voices=('hum',), **sung),
    'whistle': melody_takes.Variety(voices=('whistle',), **sung),
    'other lead': melody_takes.Variety(
      leads=unseen, voice_share=0.0, band_share=0.0, tempo_change=0.1
    ),
  }


def render(
  unseen: tuple[str, ...], seed: int
) -> tuple[list[melody_takes.Take], dict[str, list[melody_takes.Take]]]:
  """Keys, and queries of each condition, of the melodies of one seed."""
  takes = {name: [] for name in varieties(unseen)}
  for place, (name, variety) in enumerate(varieties(unseen).items()):
    for index in range(TUNES):
      melody = melody_takes.compose(seed, SPLIT, index, SECONDS)
      longest = SECONDS * 1.1 * melody.bpm / 60.0
      own = [seed] if seed else []
      where = np.random.default_rng([7, index, *own])
      start = where.uniform(0, melody.beats - longest)
      # Of the condition too, so that players of two are independent.
      rng = np.random.default_rng([8, place, index, *own])
      takes[name].append(
        melody_takes.perform(melody, variety, start, SECONDS, rng)
      )
  return takes.pop('keys'), takes


def sound(takes: list[melody_takes.Take]) -> np.ndarray:
  """Waveforms [64, S]."""
  return np.stack([take.waveform for take in takes])


def ranks(scores: np.ndarray) -> np.ndarray:
  """Rank of each query's own key, 1 is best; ties count against it.

  Args:
    scores: Likeness of each query (rows) and key; query i is of key i.
  """
  return (scores >= np.diagonal(scores)[:, None]).sum(axis=1)


def measure(scores: np.ndarray) -> dict[str, float]:
  """Recall at 1 and 5 and mean reciprocal rank."""
  rank = ranks(scores)
  return {
    'recall_at_1': round(float((rank <= 1).mean()), 4),
    'recall_at_5': round(float((rank <= 5).mean()), 4),
    'mean_reciprocal_rank': round(float((1 / rank).mean()), 4),
  }


def main() -> None:
  """Measures a trained network, itself before training, and baselines."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True)
  workdir = parser.parse_args().workdir
  network = networks.load(workdir, 'melody')
  unseen = tuple(network.config['data']['unseen_leads'])
  embed = jax.jit(network.model.embed_audio)
  books = [render(unseen, seed) for seed in range(1 + FRESH)]
  keys, takes = books[0]
  fresh, _ = jax.jit(stages.build(network.config).init)(
    jax.random.key(0), {'waveform': np.stack([sound(keys[:2])] * 2, axis=1)}
  )

  def embed_takes(params, found):
    rows = embed(params, network.collections, sound(found))
    return np.asarray(rows[:, 0])

  def each(likeness, keys=keys, takes=takes):
    return {name: measure(likeness(f, keys)) for name, f in takes.items()}

  def embedded(params):
    return lambda queries, keys: (
      embed_takes(params, queries) @ embed_takes(params, keys).T
    )

  results = {
    'steps': network.config['schedule']['total_steps'],
    'tunes': TUNES,
    'chance': round(1 / TUNES, 4),
    'trained': each(embedded(network.params)),
    'untrained': each(embedded(nn.unbox(fresh))),
    'search': each(
      lambda queries, keys: baselines.by_search(
        sound(queries), sound(keys), SPECTRUM
      )
    ),
    'notes': each(functools.partial(baselines.by_notes, seconds=SECONDS)),
    'trained, tunes of other seeds': [
      each(embedded(network.params), *book) for book in books[1:]
    ],
    'transposed': {
      name: float(
        np.mean(
          [
            (query.transpose - key.transpose) % 12 != 0
            for query, key in zip(found, keys, strict=True)
          ]
        )
      )
      for name, found in takes.items()
    },
  }
  out = Path(__file__).with_name('results.json')
  out.write_text(json.dumps(results, indent=1) + '\n')
  print(out.read_text())


if __name__ == '__main__':
  try:
    main()
  except errors.UsageError as error:
    raise SystemExit(f'error: {error}') from None
