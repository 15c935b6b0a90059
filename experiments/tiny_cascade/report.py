"""The report: one self-contained page and one JSON file.

gates, stages, figures, players and pictures in; `report.html` and
`report.json` out, each written whole or not at all.
"""

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tiny_cascade import gates, pictures
from experiments.tiny_cascade.gates import Gate, plain
from musiclm_jax.evaluation import page
from musiclm_jax.evaluation.page import Clip

_PICTURE = 'picture.png'


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
      page.HTML: self.to_html().encode(),
      _PICTURE: pictures.overview(self.curves, self._generated()),
    }
    page.write(folder, files, self.to_json())

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
      f'<h2>{html.escape(heading)}</h2>' + ''.join(map(page.player, group))
      for heading, group in self.clips.items()
    )
    curves = page.picture(pictures.loss_curves(self.curves), 'loss curves')
    baselines = html.escape(json.dumps(plain(self.baselines), indent=1))
    return page.document(
      'musiclm_jax: the tiny cascade',
      '<h1>Text in, music out: what each stage has learned</h1>'
      f'<p class="{"failed" if failed else "ok"}">'
      f'{html.escape(gates.verdict(rows))}</p>'
      '<p>Sizes are tiny: this page shows learning, not music to enjoy.</p>'
      f'{_gate_tables(self.gates)}{clips}<h2>Losses</h2>{curves}'
      f'<h2>Cost</h2>{_stage_table(self.stages)}'
      f'<h2>Baselines and figures</h2><pre>{baselines}</pre>',
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
  page.check_out(folder, (page.HTML, _PICTURE), overwrite)


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
