"""Crops of the corpus with their labels, and their features.

Split of a corpus -> crops of 10 s with an audible lead -> per layer one vector
a crop, some frames for the frame-wise probes, all frames for tokens.
"""

import dataclasses
from collections.abc import Callable, Sequence

import labels
import networks
import numpy as np

from musiclm_jax.data.sources import open_source

SECONDS = 10.0
FRAMES = round(SECONDS / labels.FRAME)
_SAMPLES = round(SECONDS * 24_000)
_CHUNK = 64  # crops whose audio is in memory at once


@dataclasses.dataclass(frozen=True)
class Crops:
  """N crops of one split.

  Attributes:
    pieces: Index of each crop's piece [N].
    starts: In seconds [N].
    tasks: `key`, `family`, `bpm` of each crop [N].
    frames: Label streams [N, T], see `labels.of_frames`.
    read: Maps crop indices to waveforms [n, S].
  """

  pieces: Sequence[int]
  starts: Sequence[float]
  tasks: dict[str, list]
  frames: dict[str, np.ndarray]
  read: Callable[[range], np.ndarray]

  def __len__(self) -> int:
    return len(self.pieces)


def crops(folder: str, split: str, pieces: int, per_piece: int) -> Crops:
  """Draws crops anywhere in the first so many pieces of a split."""
  source = open_source(f'prepared:{folder}', split)
  rng = np.random.default_rng(5)
  chosen, tasks = [], {'key': [], 'family': [], 'bpm': []}
  streams = {}
  for piece in range(min(pieces, len(source))):
    truth = source.descriptions.truth(piece)
    last = int((truth['seconds'] - SECONDS) / labels.FRAME)
    for start in labels.FRAME * rng.integers(0, last, per_piece):
      heard = source.attributes(piece, start, start + SECONDS)
      if not heard['lead_family']:
        continue
      chosen.append((piece, float(start)))
      tasks['key'].append(labels.key(truth, start + SECONDS / 2))
      tasks['family'].append(heard['lead_family'])
      tasks['bpm'].append(heard['bpm'])
      for name, row in labels.of_frames(truth, start, FRAMES).items():
        streams.setdefault(name, []).append(row)

  def read(rows: range) -> np.ndarray:
    return np.stack(
      [
        source.read(chosen[i][0], round(chosen[i][1] * 24_000), _SAMPLES)
        for i in rows
      ]
    )

  return Crops(
    [piece for piece, _ in chosen],
    [start for _, start in chosen],
    tasks,
    {name: np.stack(rows) for name, rows in streams.items()},
    read,
  )


def heard(
  found: Crops, function: Callable, keep: Callable[[int, dict], dict]
) -> list:
  """Applies a network to all crops, keeping of each what `keep` returns."""
  out = []
  for first in range(0, len(found), _CHUNK):
    rows = range(first, min(first + _CHUNK, len(found)))
    results = networks.in_batches(function, found.read(rows))
    out += [keep(i, row) for i, row in zip(rows, results, strict=True)]
  return out
