"""The report: one self-contained page and one JSON file.

gates, stages, figures, players and pictures in; `report.html` and
`report.json` out, each written whole or not at all.
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

from experiments.tiny_cascade import gates, pictures
from experiments.tiny_cascade.gates import Gate, plain
from musiclm_jax.contracts import atomic_file, ownership, paths
from musiclm_jax.contracts.errors import UsageError

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
  sample_rate: int = 24_000


@dataclasses.dataclass(frozen=True)
class EvaluationReport:
  """Everything that the two files hold.

  Attributes:
    gates: In the order of the table.
    stages: `name`, `seconds` and `peak_bytes` of every stage.
    token_hashes: Stage -> SHA-256 of the tokens that it made.
    baselines: Figures beside the gates, by gate or subject.
    clips: Heading -> clips.
    curves: Stage -> records of its metrics.jsonl.
  """

  gates: Sequence[Gate]
  stages: Sequence[Mapping[str, Any]]
  token_hashes: Mapping[str, str]
  baselines: Mapping[str, Any]
  clips: Mapping[str, Sequence[Clip]]
  curves: Mapping[str, Sequence[Mapping[str, float]]]

  def write(self, folder: Path) -> None:
    """Writes report.html, picture.png and, last, report.json.

    The latter is sealed and holds the hashes of the others.
    """
    files = {
      'report.html': self.to_html().encode(),
      'picture.png': pictures.overview(self.curves, self._generated()),
    }
    for name, data in files.items():
      with atomic_file.atomic_open(folder / name, 'wb') as file:
        file.write(data)
    hashes = {name: _sha256(data) for name, data in files.items()}
    record = ownership.seal({**self.to_json(), 'files': hashes})
    text = json.dumps(record, indent=1, allow_nan=False)
    atomic_file.write_text(folder / 'report.json', text + '\n')

  def _generated(self) -> list[tuple[str, np.ndarray]]:
    """Titles and waveforms of the first section of clips."""
    first = next(iter(self.clips.values()), ())
    return [(clip.title, clip.waveform) for clip in first]

  def to_json(self) -> dict[str, Any]:
    """The contents of report.json."""
    conditions = {
      gate.name: {'conditions': dict(gate.conditions)} for gate in self.gates
    }
    baselines = {**conditions}
    for name, figures in self.baselines.items():
      baselines[name] = {**baselines.get(name, {}), **figures}
    return {
      'stages': [dict(stage) for stage in self.stages],
      'gates': [gate.to_json() for gate in self.gates],
      'token_hashes': dict(self.token_hashes),
      'baselines': plain(baselines),
    }

  def to_html(self) -> str:
    """The page: no link leads out of it."""
    rows = [gate.to_json() for gate in self.gates]
    failed = gates.failing(rows)
    clips = ''.join(
      f'<h2>{html.escape(heading)}</h2>' + ''.join(map(_figure, group))
      for heading, group in self.clips.items()
    )
    curves = _picture(pictures.loss_curves(self.curves), 'loss curves')
    baselines = html.escape(json.dumps(plain(self.baselines), indent=1))
    return (
      '<!doctype html><html lang="en"><meta charset="utf-8">'
      f'<title>musiclm_jax: the tiny cascade</title><style>{_STYLE}</style>'
      '<h1>Text in, music out: what each stage has learned</h1>'
      f'<p class="{"failed" if failed else "ok"}">'
      f'{html.escape(gates.verdict(rows))}</p>'
      '<p>Sizes are tiny: this page shows learning, not music to enjoy.</p>'
      f'{_gate_tables(self.gates)}{clips}<h2>Losses</h2>{curves}'
      f'<h2>Cost</h2>{_stage_table(self.stages)}'
      f'<h2>Baselines and figures</h2><pre>{baselines}</pre></html>'
    )


def check_out(folder: Path, overwrite: bool = False) -> None:
  """Checks that a report can be written into a folder; leaves nothing there.

  Args:
    folder: Of the demo.
    overwrite: Whether files are replaced that are not a report's, or that were
      changed since.

  Raises:
    UsageError: Naming the file that would be replaced.
  """
  record = ownership.object_in(folder / 'report.json')
  hashes = record.get('files', {}) if ownership.is_sealed(record) else {}
  for name in ('report.html', 'picture.png', 'report.json'):
    path = folder / name
    paths.check_file(path)
    if overwrite or not os.path.lexists(path):
      continue
    ours = bool(hashes) and name == 'report.json'
    if not ours and hashes.get(name) != _sha256(path.read_bytes()):
      raise UsageError(
        f"'{path}' would be replaced, and evaluate did not write it, or it was "
        'changed since: give --overwrite to replace it'
      )


def _sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def _gate_tables(found: Sequence[Gate]) -> str:
  """Gates of machinery, then gates of size."""
  return ''.join(
    f'<h2>{heading}</h2>'
    + _gate_table(kind, [gate for gate in found if gate.kind == kind])
    for kind, heading in (
      (gates.MACHINERY, 'Does the machinery work?'),
      (gates.SIZE, 'Does the size suffice?'),
    )
  )


def _gate_table(kind: str, found: Sequence[Gate]) -> str:
  """One row a gate, with its conditions in words."""
  rows = []
  for gate in found:
    figures = ''.join(
      f'<td>{"–" if figure is None else format(figure, ".4g")}</td>'
      for figure in (gate.value, gate.chance, gate.low, gate.high)
    )
    words = '<br>'.join(
      f'<span class="{"ok" if holds else "failed"}">'
      f'{"✓" if holds else "✗"} {html.escape(text)}</span>'
      for text, holds in gate.conditions.items()
    )
    word = gates.word(gate.to_json())
    rows.append(
      f'<tr><td>{gate.name}</td><td>{gate.stage}</td>{figures}'
      f'<td class="{"ok" if gate.passed else "failed"}">{word}</td>'
      f'<td class="words">{words}</td></tr>'
    )
  return (
    f'<table id="{kind}"><tr><th>gate</th><th>stage</th><th>value</th>'
    '<th>chance</th><th>low</th><th>high</th><th></th><th>must hold</th></tr>'
    + ''.join(rows)
    + '</table>'
  )


def _stage_table(stages: Sequence[Mapping[str, Any]]) -> str:
  rows = ''.join(
    f'<tr><td>{html.escape(stage["name"])}</td>'
    f'<td>{stage["seconds"]:.0f}</td>'
    f'<td>{stage["peak_bytes"] / 1e9:.2f}</td></tr>'
    for stage in stages
  )
  head = '<tr><th>stage</th><th>seconds</th><th>peak GB</th></tr>'
  return f'<table>{head}{rows}</table>'


def _figure(clip: Clip) -> str:
  """A player with a spectrogram above and its title below."""
  import soundfile

  buffer = io.BytesIO()
  waveform = np.clip(np.nan_to_num(clip.waveform), -1.0, 1.0)
  soundfile.write(buffer, waveform, clip.sample_rate, format='FLAC')
  sound = base64.b64encode(buffer.getvalue()).decode()
  return (
    f'<figure>{_picture(pictures.spectrogram(waveform), clip.title)}'
    f'<audio controls src="data:audio/flac;base64,{sound}"></audio>'
    f'<figcaption>{html.escape(clip.title)}</figcaption></figure>'
  )


def _picture(png: bytes, words: str) -> str:
  data = base64.b64encode(png).decode()
  return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'
