"""Processes that may crash: parsers of untrusted files run in them.

call(function, *arguments) -> its result, computed in a process of its own

A parser in C may end its process, hang, or print to standard error; here that
costs one process and names one file. A process serves many calls and is
started again when it is gone.
"""

import atexit
import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from musiclm_jax.contracts.errors import UsageError

CPU_SECONDS = 10.0
_BYTES_PER_CPU_SECOND = 1e6  # a decoder that is slower than that hangs
_CALLS_PER_PROCESS = 32  # that justify one more
_MAX_PROCESSES = 8
_ONE_THREAD = ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS')  # of a process
_PROGRAM = (
  'import sys; sys.path[:] = {path}; '
  'from musiclm_jax.data.parser_process import serve; serve({descriptor})'
)


class ParserError(Exception):
  """Says in a few words how a parser failed: what it raised, how it died."""


def cpu_seconds(num_bytes: int) -> float:
  """How long a parser may work on a file of that size, in CPU seconds."""
  return CPU_SECONDS + num_bytes / _BYTES_PER_CPU_SECOND


def call(
  function: Callable, *arguments: Any, seconds: float = CPU_SECONDS
) -> Any:
  """Runs a function in a process that may crash; safe to use from threads.

  Args:
    function: Of a module, which must not import jax.
    *arguments: Its arguments; they and the result are pickled.
    seconds: Of CPU time that it may take.

  Raises:
    UsageError: If it raised that.
    ParserError: If it raised anything else, died or took too long.
  """
  try:
    process = _idle.pop()
  except IndexError:
    process = _Process()
  while True:
    fresh = process.calls == 0
    try:
      good, result = process.call(function, arguments, seconds)
      break
    except _DiedError as error:
      # What an earlier file has left in the memory is not this one's fault.
      if fresh or error.signal == signal.SIGPROF:
        raise ParserError(error.reason(seconds)) from None
    process = _Process()
  _idle.append(process)
  if not good:
    raise result
  return result


def call_all(
  function: Callable, rows: Sequence[tuple], seconds: Sequence[float]
) -> list[Any]:
  """Runs `function(*row)` for each row, several at a time.

  Returns:
    Results in the order of the rows; a ParserError in place of a result.
  """

  def attempt(row: tuple, limit: float) -> Any:
    try:
      return call(function, *row, seconds=limit)
    except ParserError as error:
      return error

  most = min(_MAX_PROCESSES, os.cpu_count() or 1)
  threads = min(most, 1 + len(rows) // _CALLS_PER_PROCESS)
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    try:
      return list(pool.map(attempt, rows, seconds))
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise


def serve(descriptor: int) -> None:
  """Answers calls until the other end is closed: a process's whole life."""
  import resource  # of Unix, as is what starts this process

  connection = Connection(descriptor)
  # A process that dies shall leave no file behind.
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  signal.signal(signal.SIGPROF, signal.SIG_DFL)
  connection.send('ready')
  while True:
    try:
      function, arguments, seconds = connection.recv()
    except EOFError:
      return
    # SIGPROF ends the process, in whatever code it is.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
      answer = True, function(*arguments)
    except UsageError as error:
      answer = False, error
    except Exception as error:
      answer = False, ParserError(f'{type(error).__name__}: {error}')
    signal.setitimer(signal.ITIMER_PROF, 0)
    try:
      connection.send(answer)
    except OSError:
      return  # nobody waits any more
    del answer, arguments  # may be large


class _DiedError(Exception):
  """A process is gone; `signal` says why, or is 0 if it ended by itself."""

  def __init__(self, code: int):
    super().__init__(code)
    self.signal = max(-code, 0)

  def reason(self, seconds: float) -> str:
    if self.signal == signal.SIGPROF:
      return f'its parser took more than {seconds:.0f} s'
    if self.signal:
      return f'its parser died of {signal.Signals(self.signal).name}'
    return 'its parser ended the process'


class _Process:
  """One process and the line to it; one call at a time."""

  def __init__(self):
    ours, theirs = socket.socketpair()
    with theirs:
      program = _PROGRAM.format(
        path=ascii(sys.path), descriptor=theirs.fileno()
      )
      self._process = subprocess.Popen(
        [sys.executable, '-c', program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # decoders print there, without a name
        pass_fds=(theirs.fileno(),),
        env={**os.environ, **dict.fromkeys(_ONE_THREAD, '1')},
        process_group=0,  # Ctrl-C is for the command alone
      )
    self._connection = Connection(ours.detach())
    self.calls = 0
    try:
      self._received()
    except _DiedError as error:
      raise RuntimeError(f'no process for parsers: {error}') from None

  def call(self, function: Callable, arguments: tuple, seconds: float) -> Any:
    self.calls += 1
    try:
      with contextlib.suppress(BrokenPipeError):
        self._connection.send((function, arguments, seconds))
      return self._received()
    except BaseException:
      self.end()
      raise

  def _received(self) -> Any:
    try:
      return self._connection.recv()
    except (EOFError, ConnectionError):
      raise _DiedError(self._process.wait()) from None

  def end(self) -> None:
    self._connection.close()
    self._process.kill()
    self._process.wait()


_idle: list[_Process] = []


@atexit.register
def _end_all() -> None:
  while _idle:
    _idle.pop().end()


if hasattr(os, 'register_at_fork'):
  os.register_at_fork(after_in_child=_idle.clear)
