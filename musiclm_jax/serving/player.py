"""The process that plays: requests -> sound, tokens and progress, as messages.

It is apart from the one that answers browsers, so that a piece that ends it
ends nothing else. Messages are tuples whose first part says what they are:

  to the player    ('make', asked), ('change', asked), ('stop',)
  from the player  ('ready',), ('progress', {…}), ('begun', facts),
                   ('chunk', PCM, tokens), ('changed', second),
                   ('refused', line), ('stopped',), ('done', WAV file),
                   ('failed', line)
"""

import contextlib
import signal
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import Progress


def play(connection: Connection, bundle: str | None) -> None:
  """Plays what is asked for until the other end closes.

  Args:
    connection: To whoever asks.
    bundle: Folder; None is the model inside the package.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  from musiclm_jax.cascade.musiclm import MusicLM

  with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
    try:
      model = MusicLM.load(bundle, lambda line: None)
    except UsageError as error:
      connection.send(('failed', str(error)))
      return
    connection.send(('ready',))
    while True:
      kind, *rest = connection.recv()
      if kind == 'make':
        _make(connection, model, *rest)


def _make(connection: Connection, model: Any, asked: Mapping[str, Any]) -> None:
  """Plays one piece; what it says last is done, stopped or failed."""

  def report(event: Progress) -> None:
    connection.send(
      (
        'progress',
        {
          'stage': event.stage,
          'done': event.done,
          'total': event.total,
          'unit': event.unit,
          'eta': event.eta,
        },
      )
    )

  lines: list[str] = []
  try:
    stream = model.stream(
      prompt_of(asked),
      seconds=asked['seconds'],
      seed=asked['seed'],
      negative=asked.get('negative') or None,
      sampling=asked['sampling'],
      progress=report,
      report=lines.append,
    )
    begun = {
      'samples': stream.samples,
      'sample_rate': stream.sample_rate,
      'coarse_levels': model.bundle.contract.coarse_levels,
      'remarks': lines,
    }
    connection.send(('begun', begun))
    _play(connection, stream)
  except UsageError as error:
    connection.send(('failed', str(error)))


def _play(connection: Connection, stream: Any) -> None:
  from musiclm_jax.cascade import provenance

  told: dict[str, int] = {}
  for chunk in stream:
    new = {}
    for name, codes in stream.tokens().items():
      new[name] = codes[told.get(name, 0) :].tolist()
      told[name] = len(codes)
    connection.send(('chunk', provenance.to_pcm(chunk), new))
    while connection.poll():
      kind, *rest = connection.recv()
      if kind == 'stop':
        connection.send(('stopped',))
        return
      if kind == 'change':
        _change(connection, stream, *rest)
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'piece.wav'
    stream.music().save(path)
    connection.send(('done', path.read_bytes()))


def _change(
  connection: Connection, stream: Any, asked: Mapping[str, Any]
) -> None:
  try:
    second = stream.change(prompt_of(asked), **asked['sampling'])
  except UsageError as error:
    connection.send(('refused', str(error)))
  else:
    connection.send(('changed', second))


def prompt_of(asked: Mapping[str, Any]) -> Any:
  """The prompt of a request: a text, a sound, or a mix of them."""
  from musiclm_jax.cascade.prompts import Mixture, SoundPrompt

  parts = [(style['text'], style['weight']) for style in asked['styles']]
  parts += [
    (SoundPrompt(sound['file']), sound['weight']) for sound in asked['sounds']
  ]
  return parts[0][0] if len(parts) == 1 else Mixture(parts)
