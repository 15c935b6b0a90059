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

from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.errors import DAMAGED_NPZ
from musiclm_jax.evaluation import judge_features, music_statistics
from musiclm_jax.evaluation.material import Codec, Split
from musiclm_jax.evaluation.stage_process import hash_of

CLIPS = {'train': 1000, 'test': 160}
_SECONDS = 10.0
_CROPS_PER_PIECE = 2
_CHUNK = 32  # clips in memory at once


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

  What another codec or another version of the features made is not used.

  Args:
    demo: Folder of the demo.
    name: Of the split, a key of `CLIPS`.
    split: The same, opened.
    codec: A trained SoundStream.
    report: Gets the number of crops that are done, after some of them.
  """
  path = demo / 'hearing' / f'{name}.npz'
  features = [Path(m.__file__) for m in (judge_features, music_statistics)]
  settings = f'{CLIPS[name]} {_CROPS_PER_PIECE} {_SECONDS} {codec.sha256}'
  key = hash_of(settings, Path(__file__), *features)
  hearing = _read(path, key)
  if hearing is None:
    hearing = _listen(split, codec, CLIPS[name], report)
    _write(path, key, hearing)
  return hearing


def _listen(
  split: Split, codec: Codec, limit: int, report: Callable[[int], None]
) -> Hearing:
  crops = split.crops(_SECONDS, _CROPS_PER_PIECE, limit)
  crops = sorted(crops, key=lambda c: (c.piece, c.start_seconds))
  labels: list[tuple[str, float, int]] = []
  plain: list[tuple[np.ndarray, np.ndarray]] = []
  coded: list[tuple[np.ndarray, np.ndarray]] = []
  for first in range(0, len(crops), _CHUNK):
    led = []
    for crop in crops[first : first + _CHUNK]:
      attributes = split.attributes(crop)
      # A crop without an audible lead has no family to be judged.
      if family := attributes['lead_family']:
        led.append(crop)
        labels.append((family, attributes['bpm'], crop.piece))
    if led:
      clips = np.stack([split.read(crop) for crop in led])
      plain += _features(clips)
      coded += _features(codec.through(clips))
    report(min(first + _CHUNK, len(crops)))
  families, bpm, units = zip(*labels, strict=True)
  sides = [Side(*map(np.stack, zip(*s, strict=True))) for s in (plain, coded)]
  return Hearing(families, bpm, units, *sides)


def _features(clips: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
  """Timbre and tempogram of each clip, on two threads."""

  def listen(clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return judge_features.timbre(clip), judge_features.tempogram(clip)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return list(pool.map(listen, clips))


def _write(path: Path, key: str, hearing: Hearing) -> None:
  sides = {
    f'{side}_{name}': array
    for side in ('plain', 'coded')
    for name, array in vars(getattr(hearing, side)).items()
  }
  labels = {name: vars(hearing)[name] for name in ('families', 'bpm', 'units')}
  with atomic_file.atomic_open(path, 'wb') as file:
    np.savez(file, key=key, **labels, **sides)


def _read(path: Path, key: str) -> Hearing | None:
  """What was kept under this key; None if there is nothing, or not whole."""
  try:
    with np.load(path) as kept:
      if str(kept['key']) != key:
        return None
      sides = [
        Side(kept[f'{side}_timbres'], kept[f'{side}_tempograms'])
        for side in ('plain', 'coded')
      ]
      labels = (kept[name].tolist() for name in ('families', 'bpm', 'units'))
      return Hearing(*labels, *sides)
  except DAMAGED_NPZ:
    return None
