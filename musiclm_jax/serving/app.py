"""The page's HTTP: files, requests, events, sound.

  GET    /                       the page; its files under /static
  GET    /facts                  what may be asked for
  POST   /sounds                 the bytes of a sound file -> its name
  POST   /pieces                 a request (`asking.read`) -> the piece's name
  GET    /pieces/NAME/events     server-sent events: queued, begun, chunk, …
  GET    /pieces/NAME/sound.wav  the sound, while it is made
  GET    /pieces/NAME/piece.wav  the finished file, with what it was made by
  POST   /pieces/NAME/change     another prompt, from what is not made yet
  DELETE /pieces/NAME            ends it

What is refused is one line, `{"error": line}`, with a status of 4xx or 503.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
  FileResponse,
  JSONResponse,
  Response,
  StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from musiclm_jax.cascade import inputs, provenance
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.serving import asking
from musiclm_jax.serving.jobs import Job, Jobs

STATIC = Path(__file__).parent / 'static'
MAX_SOUND_BYTES = 32 << 20
_MAX_SOUNDS = 16  # uploads that are kept, the newest
_MEGABYTE = 1 << 20
_HOSTS = ['127.0.0.1', 'localhost']


class _Refusal(Exception):
  """Ends a request with a status and a line."""

  def __init__(self, status: int, line: str):
    super().__init__(line)
    self.status = status


class Page:
  """All that the page answers.

  Attributes:
    app: The ASGI application.
  """

  def __init__(self, jobs: Jobs, most_seconds: float, sampling: SamplingConfig):
    """Takes the queue, the longest piece, and what the bundle proposes."""
    self._jobs, self._most_seconds = jobs, most_seconds
    self._sampling = sampling
    self._sounds: collections.OrderedDict[str, str] = collections.OrderedDict()
    self.app = Starlette(
      routes=[
        Route('/', self._index),
        Route('/facts', self._facts),
        Route('/sounds', self._take_sound, methods=['POST']),
        Route('/pieces', self._ask, methods=['POST']),
        Route('/pieces/{name}', self._stop, methods=['DELETE']),
        Route('/pieces/{name}/change', self._change, methods=['POST']),
        Route('/pieces/{name}/events', self._events),
        Route('/pieces/{name}/sound.wav', self._sound),
        Route('/pieces/{name}/piece.wav', self._file),
        Mount('/static', StaticFiles(directory=STATIC)),
      ],
      # Other names that lead here are another site's.
      middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)],
      exception_handlers={_Refusal: _refused, UsageError: _wrong},
      lifespan=self._life,
    )

  @contextlib.asynccontextmanager
  async def _life(self, app: Starlette) -> AsyncIterator[None]:
    """Has the queue worked off as long as the page is there."""
    with tempfile.TemporaryDirectory() as folder:
      self._folder = Path(folder)
      work = asyncio.create_task(self._jobs.run())
      try:
        yield
      finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
          await work

  async def _index(self, request: Request) -> Response:
    return FileResponse(STATIC / 'index.html')

  async def _facts(self, request: Request) -> Response:
    return JSONResponse(
      {
        'sampling': dataclasses.asdict(self._sampling),
        'most_seconds': self._most_seconds,
        'most_styles': asking.MAX_STYLES,
        'most_characters': asking.MAX_CHARACTERS,
        'most_sound_bytes': MAX_SOUND_BYTES,
        'waiting': len(self._jobs.waiting),
      }
    )

  async def _ask(self, request: Request) -> Response:
    asked = await self._read(request)
    try:
      job = self._jobs.submit(asked)
    except UsageError as error:
      raise _Refusal(503, str(error)) from error
    return JSONResponse({'name': job.name}, status_code=202)

  async def _change(self, request: Request) -> Response:
    job = self._job(request)
    self._jobs.change(job, await self._read(request))
    return JSONResponse({}, status_code=202)

  async def _stop(self, request: Request) -> Response:
    self._jobs.stop(self._job(request))
    return JSONResponse({})

  async def _events(self, request: Request) -> Response:
    job = self._job(request)

    async def lines() -> AsyncIterator[str]:
      async for event in job.told():
        yield f'data: {json.dumps(event)}\n\n'

    return StreamingResponse(
      lines(),
      media_type='text/event-stream',
      headers={'Cache-Control': 'no-store'},
    )

  async def _sound(self, request: Request) -> Response:
    job = self._job(request)
    while job.samples is None and not job.ended:
      await job.changed()
    if job.samples is None:
      raise _Refusal(404, 'this piece has ended before it began')

    async def wav() -> AsyncIterator[bytes]:
      yield provenance.wav_header(job.samples, job.sample_rate)
      async for part in job.heard():
        yield part

    return StreamingResponse(
      wav(), media_type='audio/wav', headers={'Cache-Control': 'no-store'}
    )

  async def _file(self, request: Request) -> Response:
    job = self._job(request)
    if job.file is None:
      raise _Refusal(404, 'this piece is not finished')
    name = f'attachment; filename="piece-{job.asked["seed"]}.wav"'
    return Response(
      job.file, media_type='audio/wav', headers={'Content-Disposition': name}
    )

  async def _take_sound(self, request: Request) -> Response:
    data = await _body(request, MAX_SOUND_BYTES, 'a sound')
    path = self._folder / secrets.token_urlsafe(12)
    path.write_bytes(data)
    try:
      await asyncio.to_thread(inputs.read_audio, path)
    except UsageError as error:
      path.unlink()
      line = str(error).replace(f"'{path}'", 'the file')
      raise _Refusal(422, line) from error
    self._sounds[path.name] = str(path)
    while len(self._sounds) > _MAX_SOUNDS:
      _, oldest = self._sounds.popitem(last=False)
      Path(oldest).unlink()
    return JSONResponse({'sound': path.name}, status_code=201)

  async def _read(self, request: Request) -> dict:
    """Reads a request in JSON, which another site's page cannot send."""
    if request.headers.get('content-type', '').split(';')[0] != _JSON:
      raise _Refusal(415, f'send the request as {_JSON}')
    body = await _body(request, asking.MAX_BODY_BYTES, 'a request')
    return asking.read(body, self._sounds, self._most_seconds)

  def _job(self, request: Request) -> Job:
    job = self._jobs.find(request.path_params['name'])
    if job is None:
      raise _Refusal(404, 'there is no such piece any more: ask for a new one')
    return job


_JSON = 'application/json'


async def _body(request: Request, most: int, what: str) -> bytes:
  """Reads no more of a body than may be."""
  line = f'{what} of %s MB: {most / _MEGABYTE:g} MB at most'
  length = request.headers.get('content-length', '')
  if length.isdigit() and int(length) > most:
    raise _Refusal(413, line % f'{int(length) / _MEGABYTE:,.0f}')
  read = bytearray()
  try:
    async for part in request.stream():
      read += part
      if len(read) > most:
        raise _Refusal(413, line % f'more than {most / _MEGABYTE:g}')
  except ClientDisconnect as error:
    raise _Refusal(400, f'{what} has not arrived whole') from error
  return bytes(read)


async def _refused(request: Request, error: _Refusal) -> Response:
  return JSONResponse({'error': str(error)}, status_code=error.status)


async def _wrong(request: Request, error: UsageError) -> Response:
  return JSONResponse({'error': str(error)}, status_code=422)
