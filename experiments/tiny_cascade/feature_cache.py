"""Features for the classifiers: of clips, plain and through the codec.

CorpusSplit -> crops with an audible lead -> timbre and tempogram of both
sides, which say what the classifiers are worth on a demo's own pieces. They
need the corpus and the codec alone: they are computed while the last token LM
trains and kept in `<demo>/features/<split>.npz`.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from experiments.tiny_cascade import features
from experiments.tiny_cascade.artifacts import (
  BatchedCodec,
  CorpusSplit,
  Excerpt,
)
from experiments.tiny_cascade.process import hash_of
from musiclm_jax.cascade import source_code
from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import DAMAGED_NPZ
from musiclm_jax.contracts.kept_parts import Arrays, KeptParts

CLIPS = {'test': 160}
_SECONDS = 10.0
_CROPS_PER_PIECE = 2
_CHUNK = 32  # clips in memory at once
FOLDER = ownership.Kind(
  'feature cache',
  tuple(
    f'{name}.{end}'
    for name in (*CLIPS, 'train')  # which earlier versions learned from
    for end in ('npz', 'kept/*')
  ),
  known=lambda folder: (folder.parent / 'stamps' / 'features.json').is_file(),
)
_LABELS = ('families', 'bpm', 'units')
_FEATURES = ('timbres', 'tempograms')
_SIDES = ('plain', 'coded')


@dataclasses.dataclass(frozen=True)
class ClipFeatures:
  """Features of N clips.

  Attributes:
    timbres: `features.timbre` [N, W, D].
    tempograms: `features.tempogram` [N, 2, B, L].
  """

  timbres: np.ndarray
  tempograms: np.ndarray


@dataclasses.dataclass(frozen=True)
class SplitFeatures:
  """N clips of one split as the classifiers read them.

  Attributes:
    families: Lead family of each clip [N].
    bpm: Tempo of each clip [N].
    units: Piece of each clip [N].
    plain: As they are.
    coded: As the codec gives them back.
  """

  families: Sequence[str]
  bpm: Sequence[float]
  units: Sequence[int]
  plain: ClipFeatures
  coded: ClipFeatures


def of_split(
  demo: Path,
  name: str,
  split: CorpusSplit,
  codec: BatchedCodec,
  report: Callable[[int], None] = lambda crops: None,
) -> SplitFeatures:
  """Reads what a demo has kept of this split, or computes and keeps it.

  What another codec, corpus or version of the code made is not used; an
  interrupted run goes on with the crops that it has.

  Args:
    demo: Folder of the demo.
    name: Of the split, a key of `CLIPS`.
    split: The same, opened.
    codec: A trained SoundStream.
    report: Gets the number of crops that were done since it was last called.
  """
  path = demo / 'features' / f'{name}.npz'
  settings = f'{CLIPS[name]} {_CROPS_PER_PIECE} {_SECONDS} {codec.sha256}'
  code = source_code.digest(__name__, ['soundstream'])
  # What a corpus says of itself: its pieces, their lengths, its version.
  corpus = sorted((demo / 'corpus').glob('*.json'))
  key = hash_of(settings, code, *corpus)
  arrays = _read(path, key)
  if arrays is None:
    ownership.begin(path.parent, FOLDER)
    with KeptParts(path.with_suffix('.kept'), key) as kept:
      arrays = _compute(split, codec, CLIPS[name], report, kept)
      with atomic_file.atomic_open(path, 'wb') as file:
        np.savez(file, key=key, **arrays)
  return SplitFeatures(
    *(arrays[name].tolist() for name in _LABELS),
    *(
      ClipFeatures(*(arrays[f'{side}_{n}'] for n in _FEATURES))
      for side in _SIDES
    ),
  )


def _compute(
  split: CorpusSplit,
  codec: BatchedCodec,
  limit: int,
  report: Callable[[int], None],
  kept: KeptParts,
) -> Arrays:
  """Labels and features of all clips, one a row of each array."""
  crops = split.crops(_SECONDS, _CROPS_PER_PIECE, limit)
  crops = sorted(crops, key=lambda c: (c.piece, c.start_seconds))
  parts = []
  for first in range(0, len(crops), _CHUNK):
    some = crops[first : first + _CHUNK]
    part = kept(
      f'crops from {first}', lambda some=some: _chunk(split, codec, some)
    )
    parts += [part] if len(part['units']) else []
    report(len(some))
  return {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }


def _chunk(
  split: CorpusSplit, codec: BatchedCodec, crops: Sequence[Excerpt]
) -> Arrays:
  """The same of some crops; one without an audible lead has no family."""
  attributes = [split.attributes(crop) for crop in crops]
  led = [
    (crop, found)
    for crop, found in zip(crops, attributes, strict=True)
    if found['lead_family']
  ]
  arrays = {
    'families': np.array([found['lead_family'] for _, found in led]),
    'bpm': np.array([found['bpm'] for _, found in led]),
    'units': np.array([crop.piece for crop, _ in led]),
  }
  if led:
    clips = np.stack([split.read(crop) for crop, _ in led])
    for side, rows in (('plain', clips), ('coded', codec.through(clips))):
      columns = zip(*features_of(rows), strict=True)
      for name, column in zip(_FEATURES, columns, strict=True):
        arrays[f'{side}_{name}'] = np.stack(column)
  return arrays


def features_of(clips: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
  """Timbre and tempogram of each clip [N, S], on two threads."""

  def compute(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.timbre(clip), features.tempogram(clip)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return list(pool.map(compute, clips))


def _read(path: Path, key: str) -> Arrays | None:
  """What was kept under this key; None if there is nothing, or not whole."""
  try:
    with np.load(path) as kept:
      if str(kept['key']) != key:
        return None
      return {name: kept[name] for name in kept.files if name != 'key'}
  except DAMAGED_NPZ:
    return None
