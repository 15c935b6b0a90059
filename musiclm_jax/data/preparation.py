"""Prepares music to be read fast: any source -> a corpus of short records.

pieces -> shards of about 23 minutes -> decoded, resampled, mono -> int16

A shard is a pure function of the list of pieces and its number. It is written
under another name and renamed, so an interrupted run continues with what is
missing. Decoders and the renderer work in processes that may crash; each is
called by a thread that writes one shard.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts import atomic_file, ownership, paths, record_file
from musiclm_jax.contracts.atomic_file import write_text
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.contracts.terminal import first_few, printable
from musiclm_jax.data import prepared
from musiclm_jax.data.origins import ShardOrigins
from musiclm_jax.data.preparable import Preparable, Rejected
from musiclm_jax.data.prepared import FOLDER, RECORD_SAMPLES, Shard
from musiclm_jax.rendered_music import soundfont

_OPTIONS = 'group_size:1,uncompressed'
_OVERHEAD = 1.02  # of records and of what is said of the pieces
Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a prepared corpus holds.

  Attributes:
    pieces: Split -> number of pieces.
    seconds: Of sound.
    rejected: What is not in it.
    damaged: What is in it with silence in places, and why.
  """

  pieces: Mapping[str, int]
  seconds: float
  rejected: tuple[Rejected, ...]
  damaged: tuple[Rejected, ...]

  def to_json(self) -> dict[str, Any]:
    """As a JSON object."""
    return {
      'prepared': sum(self.pieces.values()),
      'splits': dict(self.pieces),
      'seconds': round(self.seconds, 2),
      'rejected': [dataclasses.asdict(each) for each in self.rejected],
      'damaged': [dataclasses.asdict(each) for each in self.damaged],
    }


def prepare(
  music: Preparable,
  folder: Path,
  *,
  processes: int,
  overwrite: bool = False,
  report: Report = lambda line: None,
  progress: ProgressCallback | None = None,
) -> Summary:
  """Writes what a folder lacks of the music, or nothing where it is complete.

  Args:
    music: To be prepared.
    folder: Of the prepared corpus.
    processes: That decode or render.
    overwrite: Whether another corpus that is there is replaced.
    report: Takes lines for the user.
    progress: Takes events, counted in pieces.

  Returns:
    What the corpus holds.

  Raises:
    UsageError: If the folder holds something else, another run prepares in it,
      or the disk is too small.
  """
  ownership.check(folder, FOLDER)
  plan = music.plan()
  if not overwrite:
    _check_plan(folder, plan)
  replaced = not _is_same(folder, plan)
  left = music.shards if replaced else Writer(music, folder).missing()
  size = sum(
    2 * music.splits[shard.split].num_samples(i)
    for shard in left
    for i in range(shard.first, shard.last)
  )
  paths.check_room(folder, size * _OVERHEAD, 'the pieces')
  with ownership.hold(folder, FOLDER, 'preparing'):
    if overwrite and not _is_same(folder, plan):
      ownership.clear(folder, FOLDER)
    _check_plan(folder, plan)
    atomic_file.remove_leftovers(folder)
    if not _is_same(folder, plan):
      write_text(folder / prepared.PLAN, json.dumps(plan, indent=1))
    writer = Writer(music, folder)
    writer.remove_stale(report, anywhere=overwrite)
    missing = writer.missing()
    if missing or not (folder / prepared.DONE).is_file():
      (folder / prepared.DONE).unlink(missing_ok=True)
      writer.write(missing, processes, progress)
      writer.finish()
    return writer.summary()


def _is_same(folder: Path, plan: Mapping[str, Any]) -> bool:
  """Whether a folder is for this music, wherever that lies now."""
  there = ownership.object_in(folder / prepared.PLAN)
  return bool(there) and there | {'source': plan['source']} == plan


def _check_plan(folder: Path, plan: Mapping[str, Any]) -> None:
  """Refuses a folder that is for other music."""
  advice = 'choose another --out, or give --overwrite to replace it'
  if prepared.is_old(folder):
    raise UsageError(
      f"'{printable(folder)}' holds a corpus of an earlier version: {advice}"
    )
  there = ownership.object_in(folder / prepared.PLAN)
  if not there and any(folder.glob('prepared-*')):
    raise UsageError(
      f"'{printable(folder)}' holds pieces of a corpus whose {prepared.PLAN} "
      f'(which one it is) is missing or damaged: {advice}'
    )
  if not there or _is_same(folder, plan):
    return
  for field in plan:
    if field != 'source' and there.get(field) != plan[field]:
      found, asked = f'{field}={there.get(field)}', f'{plan[field]}'
      if field == 'pieces_sha256':
        found, asked = 'pieces of other names or lengths', 'these'
      break
  else:
    found, asked = 'another one', 'this'
  raise UsageError(
    f"'{printable(folder)}' holds another corpus ({printable(found)}, asked "
    f'for {printable(asked)}), of {printable(there.get("source"))}: {advice}'
  )


class Writer:
  """Writes the shards of a prepared corpus, several at a time."""

  def __init__(self, music: Preparable, folder: Path):
    """Takes the music and the folder, which the caller holds."""
    self._music, self._folder = music, folder
    self._shards = music.shards
    self._origins = {s: p.origins() for s, p in music.splits.items()}
    self._stop = threading.Event()
    self._lock = threading.Lock()

  def missing(self) -> list[Shard]:
    """Lists the shards that are not there, or cut short."""
    return [shard for shard in self._shards if not self._has(shard)]

  def remove_stale(self, report: Report, anywhere: bool = False) -> None:
    """Removes shards whose music or captions are not what they were.

    Args:
      report: Gets a line on them.
      anywhere: Whether to do so also where the music lies in another place
        than when the corpus was begun: that may be other music of the same
        names.

    Raises:
      UsageError: If it does, and there are such.
    """
    stale, changed = [], []
    for shard in self._shards:
      origins = self._origins[shard.split]
      old = ShardOrigins.read(shard.origins(self._folder))
      if origins is None or old is None:
        continue
      pieces = self._music.splits[shard.split]
      now, lost = origins.compare(
        old, {i: pieces.piece_id(i) for i in range(shard.first, shard.last)}
      )
      if lost:
        stale.append(shard)
        changed += lost
      elif now != old:
        now.write(shard.origins(self._folder))
    names = first_few([f"'{printable(name)}'" for name in changed])
    source = prepared.read_object(self._folder / prepared.PLAN)['source']
    if stale and source != self._music.name and not anywhere:
      raise UsageError(
        f'the corpus was prepared from {printable(source)}; in '
        f'{printable(self._music.name)} is other music of the same names '
        f'({names}): choose another --out, or give --overwrite to replace it'
      )
    for shard in stale:
      for what in ('pieces', 'prepared'):
        shard.path(self._folder, what).unlink(missing_ok=True)
    if stale:
      report(
        f'{len(stale)} shard(s) are made again, as the music or the captions '
        f'of {names} have changed'
      )

  def write(
    self,
    shards: list[Shard],
    processes: int,
    progress: ProgressCallback | None,
  ) -> None:
    """Writes shards; at an interruption those that are begun are given up."""
    total = sum(shard.last for shard in self._shards) - sum(
      shard.first for shard in self._shards
    )
    left = sum(shard.last - shard.first for shard in shards)
    meter = Meter('prepare', total, 'pieces', progress)
    meter.advance(total - left, skipped=True)
    if self._music.kind in ('rendered_music', 'midi_folder'):
      soundfont.path()  # made once, before the processes ask for it
    with concurrent.futures.ThreadPoolExecutor(
      max(min(processes, len(shards)), 1)
    ) as pool:
      futures = [pool.submit(self._write, s, meter) for s in shards]
      try:
        for future in concurrent.futures.as_completed(futures):
          future.result()
      except BaseException:
        self._stop.set()
        pool.shutdown(cancel_futures=True)
        raise

  def _write(self, shard: Shard, meter: Meter) -> None:
    origins = self._origins[shard.split]
    pieces = self._music.splits[shard.split]
    if origins is not None:
      made_of = {
        pieces.piece_id(i): origins.of(i)
        for i in range(shard.first, shard.last)
      }
      code = f'schema {prepared.SCHEMA_VERSION}'
      ShardOrigins(made_of, code).write(shard.origins(self._folder))
    rows: list[dict[str, Any]] = []
    shard.path(self._folder, 'pieces').unlink(missing_ok=True)
    with contextlib.suppress(_StoppedError):
      record_file.write(
        shard.path(self._folder, 'prepared'),
        self._records(shard, rows, meter),
        _OPTIONS,
      )
      # The pieces come first, then what could not be read.
      rows.sort(key=lambda row: 'reason' in row)
      record_file.write(
        shard.path(self._folder, 'pieces'),
        (json.dumps(row).encode() for row in rows),
        _OPTIONS,
      )

  def _records(
    self, shard: Shard, rows: list[dict[str, Any]], meter: Meter
  ) -> Iterator[bytes]:
    """Makes the records of a shard; adds what is said of each piece to rows."""
    pieces = self._music.splits[shard.split]
    for i in range(shard.first, shard.last):
      name = pieces.piece_id(i)
      self._check_stop()
      stretches, said = pieces.make(i)
      row = {'id': name, 'samples': 0, 'lost': None, **said}
      silence = 0  # of the stretches so far, none of which could be read
      for waveform, reason in stretches:
        self._check_stop()
        row['lost'] = row['lost'] or reason
        if not row['samples'] and reason and not waveform.any():
          silence += len(waveform)
          continue
        waveform = np.pad(waveform, (silence, 0))
        silence = 0
        pcm = prepared.to_pcm(waveform)
        for start in range(0, len(pcm), RECORD_SAMPLES):
          part = pcm[start : start + RECORD_SAMPLES]
          yield prepared.to_record(name, row['samples'], part)
          row['samples'] += len(part)
      if not row['samples']:
        row = {'id': name, 'reason': row['lost']}
      rows.append(row)
      with self._lock:
        meter.advance()

  def _check_stop(self) -> None:
    if self._stop.is_set():
      raise _StoppedError

  def _has(self, shard: Shard) -> bool:
    """Whether a shard is there; the ends of its files show whether whole."""
    pieces, sound = (
      record_file.num_records(shard.path(self._folder, what))
      for what in ('pieces', 'prepared')
    )
    return pieces == shard.last - shard.first and sound is not None

  def _said_of(self, shard: Shard) -> tuple[list[dict], list[dict]] | None:
    """What is said of a shard's pieces, and what is not in it; None if gone."""
    found = record_file.read_all(shard.path(self._folder, 'pieces'))
    if found is None:
      return None
    rows = list(map(json.loads, found))
    return (
      [row for row in rows if 'reason' not in row],
      [row for row in rows if 'reason' in row],
    )

  def finish(self) -> None:
    """Writes the index and TFDS's metadata: then the corpus is complete."""
    index: dict[str, Any] = {'splits': {}, 'rejected': [], 'damaged': []}
    for shard in sorted(self._shards, key=lambda s: s.number):
      good, bad = self._said_of(shard)
      split = index['splits'].setdefault(
        shard.split, {'ids': [], 'samples': [], 'captioned': [], 'shards': []}
      )
      for row in good:
        if 'record' in row or row['captions']:
          split['captioned'].append(len(split['ids']))
        split['ids'].append(row['id'])
        split['samples'].append(row['samples'])
        if row['lost']:
          index['damaged'].append({'path': row['id'], 'reason': row['lost']})
      split['shards'].append(len(good))
      index['rejected'] += [
        {'path': row['id'], 'reason': row['reason']} for row in bad
      ]
    write_text(self._folder / prepared.INDEX, json.dumps(index))
    with atomic_file.part_folder(self._folder) as part:
      self._describe(part)
      # What says that the corpus is complete comes last.
      for path in sorted(part.iterdir(), key=lambda p: p.name == prepared.DONE):
        path.rename(self._folder / path.name)

  def _describe(self, part: Path) -> None:
    """Writes what TFDS reads into an empty folder."""
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
      data_dir=self._folder,
      dataset_name='prepared',
      filetype_suffix='array_record',
      template='{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
    )
    files: dict[str, list[Path]] = {split: [] for split in self._music.splits}
    for shard in sorted(self._shards, key=lambda s: s.number):
      files[shard.split].append(shard.path(self._folder, 'prepared'))
    info = tfds.core.DatasetInfo(
      builder=tfds.core.DatasetIdentity(
        name='prepared',
        version=tfds.core.Version(f'{prepared.SCHEMA_VERSION}.0.0'),
        data_dir=str(part),
        module_name='',
      ),
      description='Music as short records of mono int16 at 24 kHz.',
      features=prepared.features(),
      disable_shuffling=True,
    )
    info.set_file_format('array_record')
    info.set_splits(
      tfds.core.SplitDict(
        [
          tfds.core.SplitInfo(
            name=split,
            shard_lengths=[record_file.num_records(path) for path in own],
            num_bytes=sum(path.stat().st_size for path in own),
            filename_template=template.replace(split=split),
          )
          for split, own in files.items()
          if own
        ]
      )
    )
    info.write_to_directory(part)

  def summary(self) -> Summary:
    """What the corpus holds."""
    index = prepared.read_object(self._folder / prepared.INDEX)
    found = index['splits'].items()
    samples = sum(sum(split['samples']) for _, split in found)
    lost = [Rejected(**row) for row in index['rejected']]
    return Summary(
      {name: len(split['ids']) for name, split in found},
      samples / SAMPLE_RATE,
      tuple(sorted([*self._music.broken, *lost], key=lambda each: each.path)),
      tuple(Rejected(**row) for row in index['damaged']),
    )


class _StoppedError(Exception):
  """Ends a shard that is being written when another has failed."""
