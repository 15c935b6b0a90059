"""What the judges hear: features of clips, plain and through the codec.

Split -> crops with an audible lead -> timbre and tempogram of both sides.
They need the corpus and the codec alone, and take most of the judges' time:
the demo computes them while the last token LM trains and keeps them in
`<demo>/hearing/<split>.npz`.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from musiclm_jax.cascade import source_code
from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import DAMAGED_NPZ
from musiclm_jax.contracts.kept_parts import Arrays, KeptParts
from musiclm_jax.evaluation import judge_features
from musiclm_jax.evaluation.material import Codec, Crop, Split
from musiclm_jax.evaluation.stage_process import hash_of

CLIPS = {'train': 1000, 'test': 160}
_SECONDS = 10.0
_CROPS_PER_PIECE = 2
_CHUNK = 32  # clips in memory at once
FOLDER = ownership.Kind(
  'feature cache',
  tuple(f'{name}.{end}' for name in CLIPS for end in ('npz', 'kept/*')),
  known=lambda folder: (folder.parent / 'stamps' / 'hearing.json').is_file(),
)
_LABELS = ('families', 'bpm', 'units')
_FEATURES = ('timbres', 'tempograms')
_SIDES = ('plain', 'coded')


@dataclasses.dataclass(frozen=True)
class Side:
  """Features of N clips.

  Attributes:
    timbres: `judge_features.timbre` [N, W, D].
    tempograms: `judge_features.tempogram` [N, 2, B, L].
  """

  timbres: np.ndarray
  tempograms: np.ndarray


@dataclasses.dataclass(frozen=True)
class Hearing:
  """N clips of one split as the judges hear them.

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
  plain: Side
  coded: Side


def of_split(
  demo: Path,
  name: str,
  split: Split,
  codec: Codec,
  report: Callable[[int], None] = lambda heard: None,
) -> Hearing:
  """Reads what a demo has kept of this split, or listens and keeps it.

  What another codec, corpus or version of the code made is not used; an
  interrupted run goes on with the crops that it has.

  Args:
    demo: Folder of the demo.
    name: Of the split, a key of `CLIPS`.
    split: The same, opened.
    codec: A trained SoundStream.
    report: Gets the number of crops that are done, after some of them.
  """
  path = demo / 'hearing' / f'{name}.npz'
  settings = f'{CLIPS[name]} {_CROPS_PER_PIECE} {_SECONDS} {codec.sha256}'
  code = source_code.digest(__name__, ['soundstream'])
  # What a corpus says of itself: its pieces, their lengths, its version.
  corpus = sorted((demo / 'corpus').glob('*.json'))
  key = hash_of(settings, code, *corpus)
  arrays = _read(path, key)
  if arrays is None:
    ownership.begin(path.parent, FOLDER)
    with KeptParts(path.with_suffix('.kept'), key) as kept:
      arrays = _listen(split, codec, CLIPS[name], report, kept)
      with atomic_file.atomic_open(path, 'wb') as file:
        np.savez(file, key=key, **arrays)
  return Hearing(
    *(arrays[name].tolist() for name in _LABELS),
    *(Side(*(arrays[f'{side}_{n}'] for n in _FEATURES)) for side in _SIDES),
  )


def _listen(
  split: Split,
  codec: Codec,
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
    report(first + len(some))
  return {
    name: np.concatenate([part[name] for part in parts]) for name in parts[0]
  }


def _chunk(split: Split, codec: Codec, crops: Sequence[Crop]) -> Arrays:
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
    for side, heard in (('plain', clips), ('coded', codec.through(clips))):
      columns = zip(*_features(heard), strict=True)
      for name, column in zip(_FEATURES, columns, strict=True):
        arrays[f'{side}_{name}'] = np.stack(column)
  return arrays


def _features(clips: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
  """Timbre and tempogram of each clip, on two threads."""

  def listen(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return judge_features.timbre(clip), judge_features.tempogram(clip)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return list(pool.map(listen, clips))


def _read(path: Path, key: str) -> Arrays | None:
  """What was kept under this key; None if there is nothing, or not whole."""
  try:
    with np.load(path) as kept:
      if str(kept['key']) != key:
        return None
      return {name: kept[name] for name in kept.files if name != 'key'}
  except DAMAGED_NPZ:
    return None
