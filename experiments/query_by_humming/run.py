"""Finds held-out tunes that are hummed, whistled or played by others.

`python experiments/query_by_humming/run.py --workdir=DIR`, DIR being the
workdir of a melody training; writes results.json beside this file.
"""

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from musiclm_jax.cascade import networks
from musiclm_jax.contracts import errors
from musiclm_jax.data.rendered_music import tunes

TUNES, SECONDS, SPLIT = 64, 4.0, 'test'


def varieties(unseen: tuple[str, ...]) -> dict[str, tunes.Variety]:
  """Who plays the keys, and who the queries of each condition."""
  sung = {'leads': unseen, 'voice_share': 1.0, 'tempo_change': 0.1}
  return {
    'keys': tunes.Variety(
      leads=unseen, voice_share=0.0, band_share=0.5, tempo_change=0.0
    ),
    'hum': tunes.Variety(voices=('hum',), **sung),
    'whistle': tunes.Variety(voices=('whistle',), **sung),
    'other lead': tunes.Variety(
      leads=unseen, voice_share=0.0, band_share=0.0, tempo_change=0.1
    ),
  }


def render(variety: tunes.Variety, place: int) -> tuple[np.ndarray, list]:
  """Takes of all tunes [64, S] and their transpositions.

  `place` numbers the condition, so that players of two are independent.
  """
  waveforms, shifts = [], []
  for index in range(TUNES):
    tune = tunes.compose(0, SPLIT, index, SECONDS)
    longest = SECONDS * 1.1 * tune.bpm / 60.0
    start = np.random.default_rng([7, index]).uniform(0, tune.beats - longest)
    take = tunes.perform(
      tune, variety, start, SECONDS, np.random.default_rng([8, place, index])
    )
    waveforms.append(take.waveform)
    shifts.append(take.transpose)
  return np.stack(waveforms), shifts


def ranks(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
  """Rank of each query's own key, 1 is best; ties count against it."""
  scores = queries @ keys.T
  return (scores >= np.diagonal(scores)[:, None]).sum(axis=1)


def measure(queries: np.ndarray, keys: np.ndarray) -> dict[str, float]:
  """Recall at 1 and 5 and mean reciprocal rank."""
  rank = ranks(queries, keys)
  return {
    'recall_at_1': round(float((rank <= 1).mean()), 4),
    'recall_at_5': round(float((rank <= 5).mean()), 4),
    'mean_reciprocal_rank': round(float((1 / rank).mean()), 4),
  }


def main() -> None:
  """Measures a trained network and the same before training."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True)
  workdir = parser.parse_args().workdir
  network = networks.load(workdir, 'melody')
  unseen = tuple(network.config['data']['unseen_leads'])
  task, embed = network.task, jax.jit(network.task.embed_audio)
  rendered = {
    name: render(variety, place)
    for place, (name, variety) in enumerate(varieties(unseen).items())
  }
  fresh, _ = jax.jit(task.init)(
    jax.random.key(0),
    {'waveform': np.stack([rendered['keys'][0][:2]] * 2, axis=1)},
  )
  fresh = jax.tree.map(
    lambda box: getattr(box, 'value', box),
    fresh,
    is_leaf=lambda node: hasattr(node, 'value'),
  )
  results = {
    'steps': network.config['schedule']['total_steps'],
    'tunes': TUNES,
    'chance': round(1 / TUNES, 4),
  }
  for title, params in (('trained', network.params), ('untrained', fresh)):
    found = {
      name: np.asarray(embed(params, network.collections, waveforms)[:, 0])
      for name, (waveforms, _) in rendered.items()
    }
    keys = found.pop('keys')
    results[title] = {name: measure(q, keys) for name, q in found.items()}
  results['transposed'] = {
    name: float(np.mean(np.array(shifts) % 12 != np.array(own) % 12))
    for own in [rendered['keys'][1]]
    for name, (_, shifts) in rendered.items()
    if name != 'keys'
  }
  out = Path(__file__).with_name('results.json')
  out.write_text(json.dumps(results, indent=1) + '\n')
  print(out.read_text())


if __name__ == '__main__':
  try:
    main()
  except errors.UsageError as error:
    raise SystemExit(f'error: {error}') from None
