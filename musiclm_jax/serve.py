"""A page that plays, on this machine: `python -m musiclm_jax.serve`

Open the address that it prints: type a prompt, mix styles, hear the piece while
it is made, change it while it plays, see its tokens, save the file. The model
inside the package plays, or that of `--bundle=DIR`. It listens on the loopback
address alone; to use it from elsewhere, forward the port (`ssh -L`).
"""

from __future__ import annotations

import importlib.util
import socket
from typing import TYPE_CHECKING

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts.errors import UsageError

if TYPE_CHECKING:
  from musiclm_jax.cascade.bundle import Bundle

_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_PORT = flags.DEFINE_integer(
  'port', 8500, 'Port to listen on; 0 takes a free one.', 0, 65535
)
_QUEUE = flags.DEFINE_integer(
  'queue', 8, 'Pieces that may wait while one is made.', 1, 1000
)
_MOST_SECONDS = flags.DEFINE_float(
  'most_seconds', 60.0, 'Longest piece.', 1.0, 600.0
)
_HOST = '127.0.0.1'


def main() -> None:
  """Listens until it is interrupted."""
  missing = [
    name
    for name in ('starlette', 'uvicorn')
    if importlib.util.find_spec(name) is None
  ]
  if missing:
    raise UsageError(
      f'the page needs {" and ".join(missing)}: '
      "pip install 'musiclm_jax[serve]'"
    )
  from musiclm_jax.cascade import bundle
  from musiclm_jax.contracts import paths

  folder = paths.local(_BUNDLE.value) if _BUNDLE.value else bundle.SHIPPED
  opened = bundle.read(folder)  # before anything listens
  listener = socket.socket()
  listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listener.bind((_HOST, _PORT.value))
    listener.listen()
  except OSError as error:
    raise UsageError(
      f'--port={_PORT.value} cannot be listened on ({error.strerror}): choose '
      'another one, or 0'
    ) from error
  with listener:
    _serve(listener, opened)


def _serve(listener: socket.socket, opened: Bundle) -> None:
  import uvicorn

  from musiclm_jax.serving.app import Page
  from musiclm_jax.serving.jobs import Jobs

  jobs = Jobs(str(opened.path), _QUEUE.value)
  page = Page(jobs, _MOST_SECONDS.value, opened.settings)
  cli.report(f'open http://{_HOST}:{listener.getsockname()[1]}')
  config = uvicorn.Config(
    page.app, log_level='warning', timeout_graceful_shutdown=1
  )
  uvicorn.Server(config).run(sockets=[listener])


if __name__ == '__main__':
  cli.run(main)
