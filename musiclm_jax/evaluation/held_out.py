"""Clips that a bundle is judged by, where a user has none.

seed -> held-out music, composed and rendered, with its captions
captions of a reference -> music of a bundle, under the same names

Both folders are ours. A clip that is there is made again only if what it
depends on has changed, so that an interrupted run goes on.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from musiclm_jax.cascade import bundle, provenance, source_code
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import KeptParts
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.data.preparable import RenderedPieces
from musiclm_jax.dsp.level import rms_dbfs
from musiclm_jax.evaluation import prompts
from musiclm_jax.evaluation.clips import SILENT_DBFS, ClipFolder
from musiclm_jax.rendered_music.descriptions import Descriptions

SPLIT = 'test'
GENERATE_BATCH = 16  # texts that are made together
_TRIES = 8  # places of a piece that are drawn until no part is silent
_PARTS = 4  # of a clip, each of which is looked at
_KEY = 'depends_on_sha256'  # in a clip's provenance
REFERENCE = ownership.Kind(
  'folder of held-out music', ('*.wav', '*.json'), alone=True
)
GENERATED = ownership.Kind(
  'folder of generated music', ('*.wav', '*.json'), alone=True
)


@dataclasses.dataclass(frozen=True)
class PromptedClip:
  """A clip of a reference folder and what is asked for in its place.

  Attributes:
    name: Of the reference, relative to its folder, with `/`.
    prompt: Its caption.
  """

  name: str
  prompt: str

  @property
  def file(self) -> str:
    """Name of what is generated for it."""
    return str(PurePosixPath(self.name).with_suffix('.wav'))


def check_folder(
  folder: Path, kind: ownership.Kind, overwrite: bool = False
) -> None:
  """Checks that clips can be written into a folder; leaves nothing there.

  Args:
    folder: It need not be there.
    kind: `REFERENCE` or `GENERATED`.
    overwrite: Whether clips are replaced that were changed since.

  Raises:
    UsageError: Naming what is not ours.
  """
  ownership.check_ours(folder, kind)
  if overwrite or not folder.is_dir():
    return
  for name in sorted(ownership.files(folder)):
    path = folder / name
    written = path.suffix in ('.wav', '.json')
    if written and not provenance.is_ours(path):
      raise UsageError(
        f"'{printable(path)}' would be replaced, and evaluate did not write "
        'it, or it was changed since: give --overwrite to replace it'
      )


def write_reference(
  folder: Path,
  *,
  clips: int,
  seconds: float,
  seed: int,
  progress: ProgressCallback | None = None,
) -> None:
  """Renders clips of pieces of the test split, each with a caption.

  No training reads that split's pieces, themes or wordings of captions. The
  caption is the prompt in the provenance of each WAV.

  Args:
    folder: See `check_folder`.
    clips: How many, each of a piece of its own.
    seconds: Length of each.
    seed: Of music, places and captions.
    progress: Takes events, counted in clips.
  """
  ownership.begin(folder, REFERENCE)
  code = source_code.digest(__name__)
  pieces = RenderedPieces(SPLIT, clips, seed)
  wanted = {f'{pieces.piece_id(i)}.wav': i for i in range(clips)}
  _remove_others(folder, wanted)
  meter = Meter('held-out music', clips, 'clips', progress)
  for name, index in wanted.items():
    facts = {'held_out_piece': index, 'seconds': seconds, 'seed': seed}
    key = _hash(facts, code, provenance.versions())
    if _is_made(folder / name, key):
      meter.advance(skipped=True)
      continue
    waveform, caption, start = _crop(pieces, index, seconds, seed)
    provenance.write_sound(
      folder / name,
      waveform,
      SAMPLE_RATE,
      {'prompt': caption, 'start_seconds': start, **facts, _KEY: key},
    )
    meter.advance()


def _crop(
  pieces: RenderedPieces, index: int, seconds: float, seed: int
) -> tuple[np.ndarray, str, float]:
  """A crop of a piece, its caption and where it begins, in seconds."""
  stretches, made = pieces.make(index)
  waveform = np.concatenate([part for part, _ in stretches])
  descriptions = Descriptions(SPLIT, lambda i: made['record'])
  rng = np.random.default_rng([seed, index])
  length = round(seconds * SAMPLE_RATE)
  last = max(len(waveform) - length, 0)
  for _ in range(_TRIES):
    start = int(rng.integers(0, last + 1))
    crop = waveform[start : start + length]
    parts = np.array_split(crop, _PARTS)
    if min(rms_dbfs(part) for part in parts) >= SILENT_DBFS:
      break
  begin = start / SAMPLE_RATE
  caption, _ = descriptions.describe(0, begin, begin + seconds, rng)
  return np.pad(crop, (0, length - len(crop))), caption, begin


def prompted_clips(folder: ClipFolder) -> list[PromptedClip]:
  """Lists the clips of a folder that have a caption.

  Raises:
    UsageError: If captions.csv cannot be read as it was meant.
  """
  return [
    PromptedClip(name, prompt)
    for index, name in enumerate(folder.names)
    if (prompt := prompts.prompt_of(folder, index))
  ]


def generate(
  folder: Path,
  model: MusicLM,
  asked: list[PromptedClip],
  *,
  seconds: float,
  seed: int,
  keep_others: bool = False,
  progress: ProgressCallback | None = None,
  report: Callable[[str], None] = lambda line: None,
) -> None:
  """Lets a bundle make music of the captions of a reference.

  Args:
    folder: See `check_folder`; clips get the names of their references.
    model: The bundle.
    asked: Of the reference.
    seconds: Length of each.
    seed: The k-th `GENERATE_BATCH` texts are made with `seed + k`.
    keep_others: Whether clips stay that nothing is asked for.
    progress: Takes events of each stage.
    report: Takes lines for the user.

  Raises:
    UsageError: If two references have one name but for the suffix.
  """
  files = [clip.file for clip in asked]
  counted = collections.Counter(files)
  if twice := next((f for f in files if counted[f] > 1), None):
    raise UsageError(
      f"two references have the name '{printable(Path(twice).stem)}': clips "
      'are paired by names without suffix, keep one'
    )
  ownership.begin(folder, GENERATED)
  if not keep_others:
    _remove_others(folder, dict.fromkeys(files))
  remarks: set[str] = set()
  code = source_code.digest(MusicLM.__module__, bundle.STAGES)
  for number, first in enumerate(range(0, len(asked), GENERATE_BATCH)):
    part = asked[first : first + GENERATE_BATCH]
    call = {
      'texts': [clip.prompt for clip in part],
      'seconds': seconds,
      'seed': (seed + number) % 2**32,
    }
    key = _hash(
      {**call, 'settings': dataclasses.asdict(model.sampling)},
      *(code, provenance.versions(), model.bundle.sha256),
    )
    if all(_is_made(folder / clip.file, key) for clip in part):
      continue
    kept = folder.parent / f'.musiclm_jax-{key[:16]}.kept'
    with KeptParts(kept, key) as keep:
      music = model.generate(
        call['texts'],
        seconds=seconds,
        seed=call['seed'],
        keep=keep,
        progress=progress and _batches(progress, first, len(asked)),
        report=remarks.add,
      )
      metadata = dict(music.metadata)
      texts = metadata.pop('prompts')
      for row, clip in enumerate(part):
        mine = {'prompt': texts[row], 'row': row, **metadata, _KEY: key}
        (folder / clip.file).parent.mkdir(parents=True, exist_ok=True)
        provenance.write_sound(
          folder / clip.file, music.waveform[row], music.sample_rate, mine
        )
  if remarks:
    report(first_few(sorted(remarks)))


def _batches(
  progress: ProgressCallback, first: int, total: int
) -> ProgressCallback:
  """Says which clips of how many an event is about."""
  if total <= GENERATE_BATCH:
    return progress
  last = min(first + GENERATE_BATCH, total)
  said = f'clips {first + 1}-{last} of {total}'
  return lambda event: progress(
    dataclasses.replace(event, stage=f'{said}, {event.stage}')
  )


def _hash(facts: Mapping[str, Any], *others: Any) -> str:
  text = json.dumps([facts, *others], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _is_made(path: Path, key: str) -> bool:
  """Whether a clip is there, is unchanged, and depends on nothing else."""
  try:
    return (
      provenance.is_ours(path)
      and provenance.read_provenance(path).get(_KEY) == key
    )
  except (UsageError, OSError):
    return False


def _remove_others(folder: Path, wanted: Mapping[str, Any]) -> None:
  """Removes clips of an earlier report that are not part of this one."""
  names = {*wanted, *(str(_beside(name)) for name in wanted)}
  atomic_file.remove_leftovers(folder)
  for name in list(ownership.files(folder)):
    path = folder / name
    if name in names or path.suffix not in ('.wav', '.json'):
      continue
    if not provenance.is_ours(path):
      raise UsageError(
        f"'{printable(path)}' was not written by musiclm_jax, or was changed "
        'since: move it elsewhere'
      )
    path.unlink()


def _beside(name: str) -> PurePosixPath:
  return PurePosixPath(name).with_suffix('.json')
