"""TensorBoard events of one run, written where they arise.

tensorboardX's own SummaryWriter has a thread write them, which a full disk
ends: what comes after fills a queue that nobody empties, and the run stands.
"""

import contextlib
import os
import time
from pathlib import Path

import numpy as np

from musiclm_jax.contracts import atomic_file

_FLUSH_SECONDS = 60.0


class Events:
  """Appends scalars, texts and sounds to an event file of its own."""

  def __init__(self, folder: Path, restored_step: int):
    """Opens a new file.

    Args:
      folder: Where TensorBoard looks for it.
      restored_step: Steps that the run begins after; what earlier files say of
        later ones is hidden.

    Raises:
      OSError: Naming the file, as all that is here.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto import event_pb2

    self._event, self._flushed = event_pb2.Event, 0.0
    self._path = folder / 'events.out.tfevents.*'
    with atomic_file.naming(self._path):
      self._file = EventsWriter(os.fspath(folder / 'events'))
    if restored_step:
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._write(restored_step + 1, session_log=start)

  def add_scalar(self, name: str, value: float, step: int) -> None:
    """Adds a number."""
    from tensorboardX import summary

    self._write(step, summary=summary.scalar(name, value))

  def add_text(self, name: str, text: str, step: int) -> None:
    """Adds a line."""
    from tensorboardX import summary

    self._write(step, summary=summary.text(name, text))

  def add_audio(
    self, name: str, waveform: np.ndarray, step: int, sample_rate: int
  ) -> None:
    """Adds a waveform [S] in [-1, 1]."""
    from tensorboardX import summary

    sound = summary.audio(name, waveform[:, None], sample_rate)
    self._write(step, summary=sound)

  def _write(self, step: int, **what) -> None:
    now = time.time()
    with atomic_file.naming(self._path):
      self._file.write_event(self._event(wall_time=now, step=step, **what))
      if now - self._flushed > _FLUSH_SECONDS:
        self._file.flush()
        self._flushed = now

  def close(self) -> None:
    """Writes what is left; a full disk, which has been reported, loses it."""
    with contextlib.suppress(OSError):
      self._file.close()
