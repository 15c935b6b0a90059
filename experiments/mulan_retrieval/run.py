"""Retrieval, tagging and triplets of MuLan on held-out rendered music.

`python experiments/mulan_retrieval/run.py WORKDIR [WORKDIR ...]`: each a
workdir of a MuLan training; the first is compared with each other. Writes
results.json beside this file, or where --out says.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import material
import numpy as np
import oracles
import precision
import tags
import triplets

from musiclm_jax.cascade import networks, stage_data
from musiclm_jax.contracts import atomic_file, errors
from musiclm_jax.data.text import WordPiece
from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics import retrieval as measures

PAIRS, DRAWS, RANKS = 256, 2, (1, 5, 10)
DIRECTIONS = ('text to audio', 'audio to text')
NUMBERS = ('bpm', 'key')  # of many values, so that they tell clips apart
_AT_ONCE = 32
Units = dict[str, np.ndarray]  # figure -> its value of each clip


class Embedder:
  """A trained MuLan: texts and clips -> unit vectors [N, 128]."""

  def __init__(self, workdir: str):
    """Loads the newest checkpoint of a workdir and its word pieces."""
    network = networks.load(workdir, 'mulan')
    self.config = network.config
    self._length = int(network.config['data']['text_length'])
    self._words = WordPiece.load(Path(workdir) / stage_data.VOCABULARY)
    mulan, frozen = network.model, (network.params, network.collections)
    embed_audio, embed_text = (
      jax.jit(mulan.embed_audio),
      jax.jit(mulan.embed_text),
    )
    self._embed_audio = lambda rows: embed_audio(*frozen, rows)
    self._embed_text = lambda rows: embed_text(*frozen, rows)
    self._known: dict[str, np.ndarray] = {}

  def embed_audio(self, waveforms: np.ndarray) -> np.ndarray:
    """Embeds clips."""
    return _in_batches(self._embed_audio, waveforms)

  def embed_text(self, texts: list[str]) -> np.ndarray:
    """Embeds texts, each once."""
    new = [t for t in dict.fromkeys(texts) if t not in self._known]
    if new:
      ids = np.stack([self._words.encode(t, self._length) for t in new])
      rows = _in_batches(self._embed_text, ids)
      self._known |= dict(zip(new, rows, strict=True))
    return np.stack([self._known[t] for t in texts])


def _in_batches(function: Callable, rows: np.ndarray) -> np.ndarray:
  """Applies a function to rows of one number at a time, the last padded."""
  out = []
  for first in range(0, len(rows), _AT_ONCE):
    index = np.minimum(np.arange(first, first + _AT_ONCE), len(rows) - 1)
    out.append(np.asarray(function(rows[index]))[: len(rows) - first])
  return np.concatenate(out)


@dataclasses.dataclass(frozen=True)
class Questions:
  """What every network is asked.

  Attributes:
    clips: To be embedded.
    said: Kind of caption -> draws of one caption a clip.
    fits: Kind -> which captions are true of which clips, a draw.
    tags: Of the clips.
    triplets: Kind of words -> triplets.
  """

  clips: material.Clips
  said: dict[str, list[list[material.Caption]]]
  fits: dict[str, list[np.ndarray]]
  tags: tags.Tags
  triplets: dict[str, list[triplets.Triplet]]


def ask(count: int) -> Questions:
  """Renders the clips and writes all that is said of them."""
  clips = material.render(count)
  said = {
    kind: [material.write(clips, kind, draw) for draw in range(DRAWS)]
    for kind in material.WRITERS
  }
  fits = {
    kind: [material.fitting(one, clips) for one in draws]
    for kind, draws in said.items()
  }
  made = {kind: triplets.make(clips, kind) for kind in triplets.WORDS}
  return Questions(clips, said, fits, tags.Tags(clips), made)


def retrieval(scores: np.ndarray, fits: np.ndarray) -> Units:
  """Recalls and average precision of captions [N] among clips [N], and back."""
  units = {}
  for name, turned in zip(DIRECTIONS, (False, True), strict=True):
    s, relevant = (scores.T, fits.T) if turned else (scores, fits)
    for k in RANKS:
      units[f'{name}, R@{k}'] = measures.recall_at(s, k)
    units[f'{name}, mAP'] = precision.average_precision(s, relevant)
  return units


def mean_of_draws(draws: list[Units]) -> Units:
  """Averages what the captions of each clip have come to."""
  return {name: np.mean([d[name] for d in draws], axis=0) for name in draws[0]}


def answers(
  embedder: Embedder, questions: Questions
) -> tuple[dict[str, Units], Any]:
  """Kind of caption or triplet -> figures per clip; and scores of the tags."""
  audio = embedder.embed_audio(questions.clips.waveforms)
  found = {}
  for kind, draws in questions.said.items():
    found[kind] = mean_of_draws(
      [
        retrieval(embedder.embed_text([c.text for c in one]) @ audio.T, fits)
        for one, fits in zip(draws, questions.fits[kind], strict=True)
      ]
    )
  for kind, made in questions.triplets.items():
    anchor, same, other = (
      embedder.embed_text([getattr(triplet, name) for triplet in made])
      for name in ('anchor', 'same', 'other')
    )
    margin = (anchor * (same - other)).sum(axis=1)
    right = np.where(margin == 0, 0.5, margin > 0)
    found[f'triplets, {kind}'] = {'accuracy': right} | {
      f'accuracy where {name} changes': right[[t.changed == name for t in made]]
      for name in triplets.TRAINED
      if any(t.changed == name for t in made)
    }
  return found, audio @ embedder.embed_text(questions.tags.prompts).T


def oracle(questions: Questions, deaf_to: tuple = ()) -> dict[str, Units]:
  """What a retriever reaches that knows what captions state.

  Args:
    questions: With captions and clips.
    deaf_to: Attributes that it ignores.
  """
  return {
    kind: mean_of_draws(
      [
        retrieval(
          oracles.attribute_oracle(
            material.fitting(one, questions.clips, deaf_to)
          ),
          fits,
        )
        for one, fits in zip(draws, questions.fits[kind], strict=True)
      ]
    )
    for kind, draws in questions.said.items()
  }


def chance(questions: Questions) -> dict[str, Units]:
  """What unrelated scores reach."""
  rng = np.random.default_rng(0)
  return {
    kind: mean_of_draws(
      [retrieval(rng.random(fits.shape), fits) for fits in draws]
    )
    for kind, draws in questions.fits.items()
  }


def each(bootstrap, *sides: dict[str, Units]) -> dict[str, dict[str, list]]:
  """Intervals of all figures that all sides have: [value, low, high]."""
  ours, *theirs = sides
  return {
    kind: {
      name: _rounded(bootstrap(values, *(s[kind][name] for s in theirs)))
      for name, values in units.items()
    }
    for kind, units in ours.items()
    if all(kind in side for side in theirs)
  }


def _rounded(interval: bootstrap.Interval) -> list[float]:
  return [round(float(x), 4) for x in dataclasses.astuple(interval)]


def _tagging(questions: Questions, *scores: np.ndarray) -> dict[str, list]:
  found = questions.tags.intervals(scores)
  return {name: _rounded(interval) for name, interval in found.items()}


def _one_line(found: re.Match) -> str:
  return f'[{" ".join(found.group(1).split())}]'


def main() -> None:
  """Measures all networks on the same clips, captions and triplets."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('workdirs', nargs='+')
  parser.add_argument('--pairs', type=int, default=PAIRS)
  parser.add_argument(
    '--out', type=Path, default=Path(__file__).with_name('results.json')
  )
  arguments = parser.parse_args()
  questions = ask(arguments.pairs)
  ceiling, mean = oracle(questions), bootstrap.mean
  results = {
    'date': time.strftime('%Y-%m-%d'),
    'versions': {n: importlib.metadata.version(n) for n in ('jax', 'numpy')},
    'pairs': arguments.pairs,
    'captions a clip': DRAWS,
    'triplets': {k: len(made) for k, made in questions.triplets.items()},
    'tags': dict(
      zip(questions.tags.prompts, questions.tags.attributes, strict=True)
    ),
    'oracle': each(mean, ceiling),
    'oracle deaf to bpm and key': each(mean, oracle(questions, NUMBERS)),
    'chance': each(mean, chance(questions)),
    'networks': {},
    'differences': {},
  }
  first = None
  for workdir in arguments.workdirs:
    embedder, name = Embedder(workdir), Path(workdir).name
    found, scores = answers(embedder, questions)
    results['networks'][name] = {
      'steps': embedder.config['schedule']['total_steps'],
      'figures': each(mean, found) | {'tags, AUC': _tagging(questions, scores)},
      'of the oracle': each(bootstrap.ratio, found, ceiling),
    }
    if first:
      ours, our_scores, our_name = first
      results['differences'][f'{our_name} - {name}'] = each(
        bootstrap.difference, ours, found
      ) | {'tags, AUC': _tagging(questions, our_scores, scores)}
    else:
      first = found, scores, name
  told = re.sub(
    r'\[\s+([^][{}]*?)\s+\]', _one_line, json.dumps(results, indent=1)
  )
  atomic_file.write_text(arguments.out, told + '\n')
  print(told)


if __name__ == '__main__':
  try:
    main()
  except errors.UsageError as error:
    raise SystemExit(f'error: {error}') from None
