"""The record of a training: JSON lines, and TensorBoard events.

`metrics.jsonl` has one object a logged step and holds nothing that depends on
the clock, so two runs of one config write the same bytes. What depends on it
goes into `speed.jsonl`.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts import atomic_file
from musiclm_jax.training import workdir as folder

_FLUSH_SECONDS = 60.0  # between writes of the event file


class Report:
  """Writes the record of one workdir.

  Summaries of tensorboardX go to an event file of its own: its SummaryWriter
  has a thread write them, which a full disk ends; what comes after fills a
  queue that is never emptied, and the run hangs.
  """

  def __init__(self, workdir: Path, restored_step: int):
    """Opens the record and forgets steps beyond the restored one.

    Args:
      workdir: Of the training.
      restored_step: Steps that the restored state has done; 0 at the start.
        What earlier event files say of later ones is hidden.

    Raises:
      OSError: Naming the file, as all that is here.
    """
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    self._summary, self._event, self._flushed = summary, Event, 0.0
    workdir = Path(workdir)
    paths = [workdir / name for name in (folder.METRICS, folder.SPEED)]
    for path in paths:
      _truncate(path, restored_step)
    self._files = contextlib.ExitStack()
    self._metrics, self._speed = (
      self._files.enter_context(path.open('ab', buffering=0)) for path in paths
    )
    text = paths[0].read_text(errors='replace')
    self.rows = [row for _, row in _rows(text)]
    self._path = workdir / 'events.out.tfevents.*'
    with atomic_file.naming(self._path):
      self._events = EventsWriter(os.fspath(workdir / 'events'))
    if restored_step:
      start = SessionLog(status=SessionLog.START)
      self._add_event(restored_step + 1, session_log=start)

  def write(
    self, row: Mapping[str, float | None], warnings: Sequence[str] = ()
  ) -> None:
    """Appends one object and flushes it.

    Args:
      row: Of `as_row`.
      warnings: Causes, only such as follow from the rows so far.
    """
    said = {'warnings': list(warnings)} if warnings else {}
    _append(self._metrics, {**row, **said})
    for name, value in row.items():
      if name != 'step' and value is not None:
        group = 'held_out' if name.startswith('eval_') else 'train'
        self._add_scalar(row['step'], f'{group}/{name}', value)

  def write_speed(self, step: int, speed: Mapping[str, float]) -> None:
    """Appends what depends on the clock, to four digits."""
    rounded = {name: float(f'{value:.4g}') for name, value in speed.items()}
    _append(self._speed, {'step': step, **rounded})
    for name, value in rounded.items():
      if not name.startswith('seconds_'):
        self._add_scalar(step, f'speed/{name}', value)

  def write_warning(self, step: int, cause: str, line: str) -> None:
    """Puts a line that was printed beside the curves."""
    text = self._summary.text(f'warnings/{cause}', line)
    self._add_event(step, summary=text)

  def write_samples(
    self, step: int, samples: Mapping[str, np.ndarray], sample_rate: int
  ) -> None:
    """Makes waveforms [N, S] playable, the names of one example together."""
    for name, waveforms in samples.items():
      for index, waveform in enumerate(waveforms):
        sound = self._summary.audio(
          f'sample_{index + 1}/{name}',
          np.clip(waveform, -1.0, 1.0)[:, None],
          sample_rate,
        )
        self._add_event(step, summary=sound)

  def _add_scalar(self, step: int, name: str, value: float) -> None:
    self._add_event(step, summary=self._summary.scalar(name, value))

  def _add_event(self, step: int, **what: Any) -> None:
    """Adds what an event holds, such as a `summary`."""
    now = time.time()
    with atomic_file.naming(self._path):
      self._events.write_event(self._event(wall_time=now, step=step, **what))
      if now - self._flushed > _FLUSH_SECONDS:
        self._events.flush()
        self._flushed = now

  def __enter__(self) -> 'Report':
    return self

  def __exit__(self, *_: object) -> None:
    # A full disk, which has been reported, loses what is left of the events.
    with self._files, contextlib.suppress(OSError):
      self._events.close()


def as_row(step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
  """Orders a step's metrics as they are recorded; not finite becomes None."""
  ordered = {'loss': metrics['loss'], **metrics}
  finite = {k: v if math.isfinite(v) else None for k, v in ordered.items()}
  return {'step': step, **finite}


def _append(file: Any, record: Mapping[str, Any]) -> None:
  """Writes a line at once; a full disk leaves a torn one, which is passed over.

  Raises:
    OSError: Naming the file.
  """
  line = (json.dumps(record) + '\n').encode()
  with atomic_file.naming(file.name):
    while line:
      line = line[file.write(line) :]


def _truncate(path: Path, last_step: int) -> None:
  if not path.exists():
    return
  text = path.read_text(errors='replace')
  kept = ''.join(
    line
    for line, row in _rows(text)
    if row['step'] <= last_step and line.endswith('\n')
  )
  if kept != text:
    atomic_file.write_text(path, kept)


def _rows(text: str) -> Iterator[tuple[str, dict]]:
  """Lines that are whole records, with what they say."""
  for line in text.splitlines(keepends=True):
    with contextlib.suppress(ValueError, TypeError, KeyError):
      row = json.loads(line)
      int(row['step'])
      yield line, row
