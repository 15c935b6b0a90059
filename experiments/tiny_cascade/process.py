"""One stage as a process: run, metered, watched, recorded.

command -> exit code, seconds, peak bytes of its process tree; a stamp file
says with which inputs the stage was begun and whether it was finished.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from musiclm_jax import cli
from musiclm_jax.cascade import source_code
from musiclm_jax.contracts import atomic_file
from musiclm_jax.contracts.terminal import printable

_SAMPLE_SECONDS = 0.5
_TAIL_BYTES = 4096
# Errors name the place of this package in the terminal's last lines.
FAILED_LINES = 15


@dataclasses.dataclass
class Usage:
  """What a stage has cost so far.

  Attributes:
    seconds: Wall-clock time, over all attempts.
    peak_bytes: Largest summed resident memory of its process tree.
  """

  seconds: float = 0.0
  peak_bytes: int = 0


def run(
  command: Sequence[str],
  log: Path,
  events: Path,
  watch: Callable[[Usage], None],
  *,
  cores: Collection[int] | None = None,
  stop: threading.Event | None = None,
) -> tuple[int, Usage]:
  """Runs a command to its end, its output appended to `log`.

  Args:
    command: Program and arguments.
    log: Gets stdout and stderr.
    events: Gets its `Progress`, one JSON object a line; begun anew.
    watch: Called twice a second with the usage so far.
    cores: It may use these only, where the system can say so.
    stop: Ends the process when set.

  Returns:
    Its exit code and usage. An interrupt ends the process first.
  """
  for path in (log, events):
    path.parent.mkdir(parents=True, exist_ok=True)
  events.unlink(missing_ok=True)
  begun = time.monotonic()
  usage = Usage()
  with log.open('ab') as output:
    output.write(f'$ {printable(" ".join(command))}\n'.encode())
    output.flush()
    process = subprocess.Popen(
      list(command),
      stdout=output,
      stderr=subprocess.STDOUT,
      stdin=subprocess.DEVNULL,
      env=_environment(events),
    )
    if cores and hasattr(os, 'sched_setaffinity'):
      # In time: it counts its cores when jax is imported.
      with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(process.pid, cores)
    meter = _MemoryMeter(process.pid)
    meter.start()
    try:
      while process.poll() is None and not (stop and stop.is_set()):
        with contextlib.suppress(subprocess.TimeoutExpired):
          process.wait(_SAMPLE_SECONDS)
        usage.seconds = time.monotonic() - begun
        usage.peak_bytes = meter.peak_bytes
        watch(usage)
    finally:
      if process.poll() is None:
        process.terminate()
        try:
          process.wait(20)
        except subprocess.TimeoutExpired:
          process.kill()
          process.wait()
      meter.stop()
  usage.seconds = time.monotonic() - begun
  usage.peak_bytes = meter.peak_bytes
  return process.returncode, usage


class _MemoryMeter(threading.Thread):
  """Samples the summed resident memory of a process and its descendants."""

  def __init__(self, pid: int):
    super().__init__(daemon=True)
    self.peak_bytes = 0
    self._pid = pid
    self._ended = threading.Event()

  def run(self) -> None:
    import psutil

    while not self._ended.is_set():
      with contextlib.suppress(psutil.Error):
        parent = psutil.Process(self._pid)
        total = 0
        for process in (parent, *parent.children(recursive=True)):
          with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
        self.peak_bytes = max(self.peak_bytes, total)
      self._ended.wait(_SAMPLE_SECONDS)

  def stop(self) -> None:
    self._ended.set()
    self.join()


def _environment(events: Path) -> dict[str, str]:
  """Ours, in which the process finds this repository and its file of events."""
  paths = [str(source_code.ROOT), os.environ.get('PYTHONPATH', '')]
  return os.environ | {
    cli.PROGRESS_FILE: str(events),
    'PYTHONPATH': os.pathsep.join(filter(None, paths)),
  }


def progress(events: Path) -> float | None:
  """Share of a running stage that is done: what its last event says."""
  for line in reversed(_tail(events).splitlines()):
    with contextlib.suppress(
      ValueError, KeyError, TypeError, ZeroDivisionError
    ):
      event = json.loads(line)
      return min(1.0, event['done'] / event['total'])
  return None


def _tail(path: Path) -> bytes:
  """The last 4 kB of a file; nothing where it is not there yet."""
  try:
    with path.open('rb') as file:
      file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
      return file.read()
  except OSError:
    return b''


def last_lines(log: Path, count: int = FAILED_LINES) -> str:
  """The last lines of a log, carriage returns undone."""
  text = _tail(log).decode(errors='replace').replace('\r', '\n')
  lines = [line for line in text.splitlines() if line.strip()]
  return '\n'.join(lines[-count:])


@dataclasses.dataclass(frozen=True)
class Stamp:
  """Says with which inputs a stage was begun and what it has cost.

  Attributes:
    inputs: Hash of everything that the stage's output depends on.
    finished: Whether the output is complete.
    seconds: Over all attempts.
    peak_bytes: Largest over all attempts.
  """

  inputs: str
  finished: bool = False
  seconds: float = 0.0
  peak_bytes: int = 0

  @classmethod
  def read(cls, path: Path) -> 'Stamp | None':
    """The stamp at `path`, or None where there is none that can be read."""
    try:
      return cls(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
      return None

  def write(self, path: Path) -> None:
    """Replaces the stamp, atomically."""
    atomic_file.write_text(path, json.dumps(dataclasses.asdict(self)) + '\n')

  def after(self, usage: Usage, finished: bool) -> 'Stamp':
    """This stamp with one more attempt accounted for."""
    return dataclasses.replace(
      self,
      finished=finished,
      seconds=self.seconds + usage.seconds,
      peak_bytes=max(self.peak_bytes, usage.peak_bytes),
    )


def hash_of(*parts: str | Path) -> str:
  """SHA-256 of texts, and of the names and contents of files."""
  digest = hashlib.sha256()
  for part in parts:
    if isinstance(part, str):
      digest.update(b'text\0' + part.encode(errors='surrogatepass') + b'\0')
    else:
      digest.update(part.name.encode() + b'\0' + part.read_bytes() + b'\0')
  return digest.hexdigest()
