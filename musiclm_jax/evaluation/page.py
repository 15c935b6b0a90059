"""A self-contained page: style, players and pictures, beside a sealed JSON.

No link leads out of it. It is written whole or not at all, and what a user has
changed is not replaced.
"""

import base64
import dataclasses
import hashlib
import html
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.contracts import atomic_file, ownership, paths
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.evaluation import pictures

JSON, HTML = 'report.json', 'report.html'
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem;
       margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .7rem; text-align: right;
         border-bottom: 1px solid #d8dee4; vertical-align: top; }
th:first-child, td:first-child, td.words { text-align: left; }
.ok { color: #116329; } .failed { color: #a40e26; font-weight: 600; }
figure { display: inline-block; margin: .5rem; width: 31rem; }
figure img, figure audio { width: 100%; } figcaption { font-weight: 600; }
figure img { height: 9rem; }
pre { background: #f6f8fa; padding: .7rem; overflow-x: auto; }
"""


@dataclasses.dataclass(frozen=True)
class Clip:
  """A clip to listen to.

  Attributes:
    title: Its prompt, or what it is.
    waveform: [S] in [-1, 1].
    sample_rate: In Hz.
  """

  title: str
  waveform: np.ndarray
  sample_rate: int = SAMPLE_RATE


def document(title: str, body: str, style: str = '') -> str:
  """The page of a body; `style` is added to that of all pages."""
  return (
    '<!doctype html><html lang="en"><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{html.escape(title)}</title><style>{_STYLE}{style}</style>'
    f'{body}</html>'
  )


def player(clip: Clip, top: float | None = None) -> str:
  """A player with a spectrogram above and its title below.

  Args:
    clip: What is heard.
    top: See `pictures.spectrogram`.
  """
  import soundfile

  buffer = io.BytesIO()
  waveform = np.clip(np.nan_to_num(clip.waveform), -1.0, 1.0)
  soundfile.write(buffer, waveform, clip.sample_rate, format='FLAC')
  sound = base64.b64encode(buffer.getvalue()).decode()
  drawn = pictures.spectrogram(waveform, clip.sample_rate, top)
  return (
    f'<figure>{picture(drawn, clip.title)}'
    f'<audio controls src="data:audio/flac;base64,{sound}"></audio>'
    f'<figcaption>{html.escape(clip.title)}</figcaption></figure>'
  )


def picture(png: bytes, words: str) -> str:
  """A PNG, and words for who cannot see it."""
  data = base64.b64encode(png).decode()
  return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'


def write(
  folder: Path, files: Mapping[str, bytes], record: Mapping[str, Any]
) -> None:
  """Writes files and, last, report.json.

  The latter is sealed and holds the hashes of the others under `files`.
  """
  for name, data in files.items():
    with atomic_file.atomic_open(folder / name, 'wb') as file:
      file.write(data)
  hashes = {name: _sha256(data) for name, data in files.items()}
  sealed = ownership.seal({**record, 'files': hashes})
  text = json.dumps(sealed, indent=1, allow_nan=False)
  atomic_file.write_text(folder / JSON, text + '\n')


def check_out(
  folder: Path,
  names: Sequence[str],
  overwrite: bool = False,
  command: str = 'evaluate',
) -> None:
  """Checks that `write` can write into a folder; leaves nothing there.

  Args:
    folder: Of the report.
    names: Of the files beside report.json.
    overwrite: Whether files are replaced that are not a report's, or that were
      changed since.
    command: That writes the report, for errors.

  Raises:
    UsageError: Naming the file that would be replaced.
  """
  record = ownership.object_in(folder / JSON)
  hashes = record.get('files', {}) if ownership.is_sealed(record) else {}
  for name in (*names, JSON):
    path = folder / name
    paths.check_file(path)
    if overwrite or not os.path.lexists(path):
      continue
    ours = bool(hashes) and name == JSON
    if not ours and hashes.get(name) != _sha256(path.read_bytes()):
      raise UsageError(
        f"'{path}' would be replaced, and {command} did not write it, or it "
        'was changed since: give --overwrite to replace it'
      )


def _sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()
