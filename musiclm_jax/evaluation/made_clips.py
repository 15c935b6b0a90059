"""Clips that a bundle makes of captions, one file a caption.

captions by name -> batches of one size -> <folder>/<name>.wav with provenance.
A clip that is there is not made again, and of a batch that is interrupted its
windows are kept: the same call goes on.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from musiclm_jax.cascade import provenance
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts import ownership, paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.kept_parts import KeptParts
from musiclm_jax.contracts.progress import Meter, ProgressCallback

BATCH = 8  # captions that are made together
KIND = ownership.Kind('folder of made clips', ('*.wav', '*.json'), alone=True)


def make_clips(
  model: MusicLM,
  captions: Mapping[str, str],
  folder: Path,
  *,
  seconds: float,
  seed: int,
  progress: ProgressCallback | None = None,
  report: Callable[[str], None] = lambda line: None,
) -> None:
  """Makes a clip of each caption; which ones share a batch is always the same.

  Args:
    model: Of the bundle.
    captions: Name of a clip, a plain file name without suffix -> its caption.
    folder: Of the clips and nothing else; made where it is missing.
    seconds: Length of each.
    seed: As of `MusicLM.generate`.
    progress: Takes events, counted in clips.
    report: Takes lines for the user.

  Raises:
    UsageError: If the folder holds something else, or cannot be written.
  """
  with ownership.hold(folder, KIND, 'making clips'):
    names = list(captions)
    paths.check_room(folder, len(names) * seconds * 48_000, 'the clips')
    meter = Meter('made clips', len(names), 'clips', progress)
    remarks: set[str] = set()
    for start in range(0, len(names), BATCH):
      batch = {name: captions[name] for name in names[start : start + BATCH]}
      # One shape, one program: the last batch is filled up.
      texts = list(batch.values())
      texts += texts[-1:] * (BATCH - len(texts))
      wanted = {
        'seconds': seconds,
        'seed': seed,
        'bundle_sha256': model.bundle.sha256,
      }
      files = {name: folder / f'{name}.wav' for name in batch}
      done = all(_is_made(files[n], batch[n], wanted) for n in batch)
      if not done:
        for file in files.values():
          provenance.check_out(file)
        _make(model, texts, files, wanted, remarks.add)
      meter.advance(len(batch), skipped=done)
    if remarks:
      report(f'captions, {len(remarks)} remarks, such as: {min(remarks)}')


def _is_made(file: Path, caption: str, wanted: Mapping) -> bool:
  if not file.is_file() or not provenance.is_ours(file):
    return False
  try:
    found = provenance.read_provenance(file)
  except UsageError:
    return False
  expected = {'prompt': caption, **wanted}
  return all(found.get(key) == value for key, value in expected.items())


def _make(
  model: MusicLM,
  texts: list[str],
  files: Mapping[str, Path],
  wanted: Mapping,
  report: Callable[[str], None],
) -> None:
  """Makes a batch; its windows are kept until all its files are written."""
  facts = {'texts': texts, **wanted, 'versions': provenance.versions()}
  key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
  folder = next(iter(files.values())).parent
  with KeptParts(folder / f'.musiclm_jax-{key[:16]}.kept', key) as keep:
    music = model.generate(
      texts,
      seconds=wanted['seconds'],
      seed=wanted['seed'],
      keep=keep,
      report=report,
    )
    metadata = {k: v for k, v in music.metadata.items() if k != 'prompts'}
    for row, file in enumerate(files.values()):
      mine = {'prompt': texts[row], 'row': row, **metadata}
      provenance.write_wav(file, music.waveform[row], music.sample_rate, mine)
