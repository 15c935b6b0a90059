"""Requests of the page: a bounded queue, and the one player that works it off.

A player that ends takes the piece it was making with it and nothing else: the
next piece has a new player.
"""

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import multiprocessing
import secrets
from collections.abc import AsyncIterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.serving import player

_KEPT = 32  # finished pieces that can still be heard and saved
_ENDS = ('done', 'failed', 'stopped')
_LOST = (
  'the process that plays has ended and took this piece with it: ask for it '
  'again, a new one has been started'
)


@dataclasses.dataclass
class Job:
  """One piece that was asked for.

  Attributes:
    name: Of the piece, that nobody can guess.
    asked: For the player.
    events: What was told of it, as the page gets it.
    pcm: 16-bit samples, as far as they are made.
    samples: In all, once it has begun.
    sample_rate: Likewise.
    file: The finished WAV, with what it was made by.
  """

  name: str
  asked: Mapping[str, Any]
  events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  pcm: bytearray = dataclasses.field(default_factory=bytearray)
  samples: int | None = None
  sample_rate: int | None = None
  file: bytes | None = None
  _changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

  @property
  def ended(self) -> bool:
    """Whether nothing more comes."""
    return bool(self.events) and self.events[-1]['kind'] in _ENDS

  def tell(self, kind: str, **facts: Any) -> None:
    """Adds an event, for all who listen."""
    self.events.append({'kind': kind, **facts})
    self._changed.set()
    self._changed = asyncio.Event()

  async def changed(self) -> None:
    """Waits for the next event."""
    await self._changed.wait()

  async def told(self) -> AsyncIterator[dict[str, Any]]:
    """Yields all events, those that come included."""
    number = 0
    while True:
      while number < len(self.events):
        yield self.events[number]
        number += 1
      if self.ended:
        return
      await self.changed()

  async def heard(self) -> AsyncIterator[bytes]:
    """Yields the samples, as they are made."""
    at = 0
    while True:
      if at < len(self.pcm):
        part = bytes(self.pcm[at:])
        at += len(part)
        yield part
      elif self.ended:
        return
      else:
        await self.changed()


class Jobs:
  """The queue.

  Attributes:
    waiting: Jobs that have not begun, the next one first.
    current: The one that is being made.
  """

  def __init__(self, bundle: str | None, most: int):
    """Takes what plays and how many may wait.

    Args:
      bundle: Folder; None is the model inside the package.
      most: Jobs that may wait beside the one that is made.
    """
    self.waiting: collections.deque[Job] = collections.deque()
    self.current: Job | None = None
    self._bundle, self._most = bundle, most
    self._all: collections.OrderedDict[str, Job] = collections.OrderedDict()
    self._new = asyncio.Event()
    self._process: multiprocessing.process.BaseProcess | None = None
    self._connection: Connection | None = None
    self._reader = concurrent.futures.ThreadPoolExecutor(1)

  def submit(self, asked: Mapping[str, Any]) -> Job:
    """Queues a piece.

    Raises:
      UsageError: If too many wait.
    """
    if len(self.waiting) >= self._most:
      raise UsageError(
        f'{len(self.waiting)} pieces wait already, as many as may: ask again '
        'when one of them is made'
      )
    job = Job(secrets.token_urlsafe(12), asked)
    self._all[job.name] = job
    self.waiting.append(job)
    self._place()
    self._new.set()
    for name in [n for n, other in self._all.items() if other.ended][:-_KEPT]:
      del self._all[name]
    return job

  def find(self, name: str) -> Job | None:
    """The job of a name, while it is kept."""
    return self._all.get(name)

  def change(self, job: Job, asked: Mapping[str, Any]) -> None:
    """Plays something else from what is not made yet.

    Raises:
      UsageError: If it is not being made.
    """
    if job is not self.current or self._connection is None or job.ended:
      raise UsageError('this piece is not being made now: ask for a new one')
    try:
      self._connection.send(('change', asked))
    except OSError as error:
      raise UsageError(_LOST) from error

  def stop(self, job: Job) -> None:
    """Ends a piece; one that waits never begins."""
    if job in self.waiting:
      self.waiting.remove(job)
      job.tell('stopped')
      self._place()
    elif job is self.current and self._connection is not None:
      with contextlib.suppress(OSError):
        self._connection.send(('stop',))

  async def run(self) -> None:
    """Makes one piece after another, for ever."""
    try:
      with contextlib.suppress(UsageError, EOFError, OSError):
        await self.start()  # before anybody asks; who asks is told
      while True:
        while not self.waiting:
          self._new.clear()
          await self._new.wait()
        self.current = self.waiting.popleft()
        self._place()
        try:
          await self._make(self.current)
        except (EOFError, OSError) as error:
          logging.warning('the player has ended (%r)', error)
          self._end()
          self.current.tell('failed', line=_LOST)
        except UsageError as error:
          self.current.tell('failed', line=str(error))
        self.current = None
    finally:
      self._end()

  async def start(self) -> None:
    """Starts a player and waits until it can play.

    Raises:
      UsageError: If it cannot play.
    """
    context = multiprocessing.get_context('spawn')
    self._connection, theirs = context.Pipe()
    self._process = context.Process(
      target=player.play, args=(theirs, self._bundle), daemon=True
    )
    self._process.start()
    theirs.close()
    kind, *lines = await self._receive()
    if kind == 'failed':
      self._end()
      raise UsageError(lines[0])

  async def _make(self, job: Job) -> None:
    if self._connection is None:
      await self.start()
    self._connection.send(('make', job.asked))
    while not job.ended:
      kind, *rest = await self._receive()
      if kind == 'begun':
        job.samples, job.sample_rate = (
          rest[0]['samples'],
          rest[0]['sample_rate'],
        )
        job.tell('begun', **rest[0])
      elif kind == 'progress':
        job.tell('progress', **rest[0])
      elif kind == 'chunk':
        job.pcm += rest[0]
        job.tell(
          'chunk', seconds=len(job.pcm) / 2 / job.sample_rate, tokens=rest[1]
        )
      elif kind == 'changed':
        job.tell('changed', second=rest[0])
      elif kind == 'done':
        job.file = rest[0]
        job.tell('done')
      elif kind == 'stopped':
        job.tell('stopped')
      else:
        job.tell(kind, line=rest[0])

  async def _receive(self) -> tuple:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(self._reader, self._connection.recv)

  def _place(self) -> None:
    """Tells who waits how many are before."""
    for number, job in enumerate(self.waiting):
      job.tell('queued', before=number + 1)

  def _end(self) -> None:
    if self._process is not None:
      self._process.kill()
    if self._connection is not None:
      self._connection.close()
    self._process = self._connection = None
