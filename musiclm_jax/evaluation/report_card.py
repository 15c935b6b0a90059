"""The report card: figures, curves and clips of one bundle or of two.

results, facts and clips -> report.html and report.json; nothing is measured
here
"""

import dataclasses
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musiclm_jax.evaluation import attribution_table, cells, page, pictures
from musiclm_jax.evaluation.comparison import Difference
from musiclm_jax.evaluation.page import Clip
from musiclm_jax.evaluation.results import Side

# Prefix of keys -> heading, in the order of the page; what fits none is last.
_GROUPS = {
  'nll_': 'Held-out loss of the language models, in nats a token',
  'fad_': 'FAD, Fréchet audio distance',
  'song_fad_': 'FAD of a song, the mean',
  'fadinf_': 'FAD∞, extrapolated to any number of clips',
  'kad_': 'KAD, kernel audio distance',
  'kld_': 'KLD of pairs of clips',
  'mcc_': 'MCC, MuLan cycle consistency',
  'text_score_': 'Text score: what the prompt states is found in the clip',
  'codec_': 'Codec',
  'memorization_': 'Memorisation',
  'continuation_': 'Training prompts that are continued as in training',
  'fingerprint_': 'Fingerprints',
}
_HIGHER = (
  'mcc_',
  'text_score_',
  'codec_si_sdr',
  'codec_loudest_bins',
  'codec_visqol',
  'codec_perplexity',
)
_STYLE = """
body { max-width: 84rem; }
table.figures { width: 100%; }
table.figures td { font-variant-numeric: tabular-nums; }
table.figures td.words { font-size: .85rem; color: #57606a; }
table.figures th[colspan] { text-align: left; padding-top: .9rem; }
table.figures td:first-child { white-space: nowrap; }
table.figures th.words { text-align: left; }
.bounds { color: #57606a; white-space: nowrap; }
tr.unqualified td { color: #8c959f; }
.note { color: #57606a; font-size: .85rem; }
.weakest { background: #fff1e5; }
.verdict { font-weight: 600; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; }
svg.chart { width: 21rem; max-width: 100%; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.clips { display: flex; flex-wrap: wrap; gap: .8rem; }
.clips figure { margin: 0; width: 21rem; max-width: 100%; }
.scroll { overflow-x: auto; }
h3 { margin: 1.2rem 0 .4rem; font-size: 1rem; }
"""


@dataclasses.dataclass(frozen=True)
class ClipRow:
  """Clips that belong together: a reference and what is made of it.

  Attributes:
    title: Name of the reference, and its caption.
    clips: The reference first.
  """

  title: str
  clips: Sequence[Clip]


@dataclasses.dataclass(frozen=True)
class ReportCard:
  """Everything that the two files hold.

  Attributes:
    sides: One, or two that are compared.
    conditions: How it was measured, by name.
    left_out: Measure -> why it could not be taken.
    rows: To listen to.
    differences: Of the second side from the first, by key.
    curves: More charts, as SVG.
  """

  sides: Sequence[Side]
  conditions: Mapping[str, Any]
  left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
  rows: Sequence[ClipRow] = ()
  differences: Mapping[str, Difference] = dataclasses.field(
    default_factory=dict
  )
  curves: Sequence[str] = ()

  def write(self, folder: Path) -> None:
    """Writes report.html and, last, report.json; see `page.write`."""
    files = {page.HTML: self.to_html().encode()}
    page.write(folder, files, self.to_json())

  def to_json(self) -> dict[str, Any]:
    """Figures of the first side, as `--json` has them, and all else."""
    first, *others = self.sides
    record = {
      **first.results.to_json(),
      'bundle': dict(first.facts),
      'conditions': dict(self.conditions),
      'left_out': dict(self.left_out),
      'clips': [row.title for row in self.rows],
    }
    for other in others:
      record['compare'] = {**other.results.to_json(), 'bundle': other.facts}
      record['differences'] = {
        key: found.to_json() for key, found in self.differences.items()
      }
    return record

  def lines(self) -> list[str]:
    """Figures of each side for people, then what differs."""
    if len(self.sides) == 1:
      return self.sides[0].results.lines()
    out = []
    for side in self.sides:
      out += [f'{side.name}:', *side.results.lines(), '']
    out.append(f'{self.sides[1].name} less {self.sides[0].name}:')
    width = max(map(len, self.differences), default=0)
    for key, found in self.differences.items():
      told = 'none' if found.value is None else f'{found.value:+.4g}'
      if bounds := found.interval:
        told += f'  [{bounds.low:+.4g}, {bounds.high:+.4g}]'
      remark = f'  ({found.remark})' if found.remark else ''
      out.append(f'{key:{width}}  {told}{remark}')
    return out

  def to_html(self) -> str:
    """The page: no link leads out of it."""
    names = ' and '.join(html.escape(side.name) for side in self.sides)
    body = [
      f'<h1>Report card of {names}</h1>',
      attribution_table.verdicts(self.sides),
      '<h2>Figures</h2><p>Bounds are one-sided 95 % bounds over clips or '
      'prompts; ↓ less is better, ↑ more is better. Figures of two embedders '
      'are never compared; those in grey are of a classifier that is not good '
      'enough.</p>',
      f'<div class="scroll">{self._table()}</div>',
      cells.labels(
        [one for side in self.sides for one in side.results.details.values()]
      ),
      *(f'<p>Left out: {html.escape(x)}.</p>' for x in self.left_out.values()),
      attribution_table.tables(self.sides),
      _section('Curves', [*self.curves, *self._charts()], 'charts'),
      self._clips(),
      '<h2>How it was measured</h2>',
      cells.facts_table(self.conditions),
      *(
        f'<h2>Bundle {html.escape(side.name)}</h2>'
        + cells.facts_table(side.facts)
        for side in self.sides
        if side.facts
      ),
    ]
    title = 'musiclm_jax: report card'
    return page.document(title, ''.join(body), _STYLE)

  def _table(self) -> str:
    """All figures but those of the attribution, grouped by measure."""
    keys = [key for key in self._in_order() if not attribution_table.owns(key)]
    heads = ['value', 'bounds']
    if len(self.sides) > 1:
      names = [html.escape(side.name) for side in self.sides]
      heads = [*names, f'{names[1]} − {names[0]}']
    heads = ['figure', *heads]
    words = ('n, reference : generated', 'measured by', 'remarks')
    rows, group, width = [], None, len(heads) + len(words)
    for key in keys:
      prefix = next((p for p in _GROUPS if key.startswith(p)), '')
      if prefix != group:
        group = prefix
        told = html.escape(_GROUPS.get(prefix, 'Others'))
        rows.append(f'<tr><th colspan="{width}">{told}</th></tr>')
      rows.append(self._row(key))
    head = ''.join(f'<th>{name}</th>' for name in heads)
    head += ''.join(f'<th class="words">{name}</th>' for name in words)
    return (
      f'<table class="figures" id="figures"><tr>{head}</tr>{"".join(rows)}'
      '</table>'
    )

  def _in_order(self) -> list[str]:
    """Keys by group, then as they were found."""
    keys = dict.fromkeys(
      key for side in self.sides for key in side.results.figures
    )
    keys |= dict.fromkeys(self.differences)
    prefixes = [*_GROUPS]

    def place(key: str) -> int:
      found = (i for i, p in enumerate(prefixes) if key.startswith(p))
      return next(found, len(prefixes))

    return sorted(keys, key=place)

  def _row(self, key: str) -> str:
    details = [side.results.details.get(key, {}) for side in self.sides]
    values = [side.results.figures.get(key) for side in self.sides]
    if len(self.sides) == 1:
      shown = f'<td>{cells.number(values[0])}</td>'
      shown += f'<td class="bounds">{cells.bounds(details[0])}</td>'
    else:
      found = self.differences.get(key)
      if found and found.values:
        values = found.values
      shown = ''.join(
        f'<td>{cells.with_bounds(value, facts)}</td>'
        for value, facts in zip(values, details, strict=True)
      )
      shown += f'<td>{_difference(found)}</td>'
    facts = next((one for one in details if one), {})
    remarks = dict.fromkeys(
      remark for one in details for remark in one.get('remarks', ())
    )
    arrow = '↑' if key.startswith(_HIGHER) else '↓'
    told = '<br>'.join(html.escape(remark) for remark in remarks)
    mark = ''
    if facts.get('qualified') is False:
      mark = ' class="unqualified"'
    return (
      f'<tr{mark}><td>{html.escape(key)} {arrow}</td>{shown}'
      f'<td class="words">{cells.count(facts.get("n"))}</td>'
      f'<td class="words">{cells.origin(details)}</td>'
      f'<td class="words">{told}</td></tr>'
    )

  def _charts(self) -> list[str]:
    """FAD of each song, and the codec's perplexity by level."""
    charts = []
    for key in self._in_order():
      if key.startswith('fad_'):
        lines = {side.name: _sorted_songs(side, key) for side in self.sides}
        lines = {name: line for name, line in lines.items() if line}
        if lines:
          title = f'FAD of each song, {key.removeprefix("fad_")}'
          labels = {'x_label': 'songs, sorted', 'y_label': 'FAD'}
          charts.append(pictures.line_chart(lines, title=title, **labels))
    lines = {side.name: _perplexities(side) for side in self.sides}
    lines = {name: line for name, line in lines.items() if line}
    if lines:
      sizes = {
        facts['codebook_size']
        for side in self.sides
        for key, facts in side.results.details.items()
        if key.startswith('codec_perplexity_')
      }
      charts.append(
        pictures.line_chart(
          lines,
          title='Codec: codes in use',
          x_label='level of the quantizer',
          y_label='perplexity',
          limit=('codes', max(sizes)) if len(sizes) == 1 else None,
        )
      )
    return charts

  def _clips(self) -> str:
    if not self.rows:
      return ''
    parts = [
      '<h2>Clips</h2><p>Log-mel spectrograms from 0 Hz to half the sample '
      f'rate, {pictures.DYNAMIC_RANGE_DB:g} dB from dark to bright, each row '
      'on one scale.</p>'
    ]
    for row in self.rows:
      spectrums = [
        pictures.decibels(clip.waveform, clip.sample_rate) for clip in row.clips
      ]
      top = pictures.loudest(*spectrums)
      players = ''.join(page.player(clip, top) for clip in row.clips)
      parts.append(
        f'<h3>{html.escape(row.title)}</h3><div class="clips">{players}</div>'
      )
    return ''.join(parts)


def _difference(found: Difference | None) -> str:
  if found is None:
    return '–'
  told = cells.with_bounds(found.value, found.to_json())
  counted = f'{found.num_units} pairs' if found.num_units else ''
  words = '; '.join(filter(None, (found.remark, counted)))
  return f'{told}<br><span class="note">{html.escape(words)}</span>'


def _sorted_songs(side: Side, key: str) -> list[tuple[float, float]]:
  songs = side.results.details.get(key, {}).get('per_song', {})
  found = sorted(value for value in songs.values() if value is not None)
  return [(float(rank), value) for rank, value in enumerate(found, 1)]


def _perplexities(side: Side) -> list[tuple[float, float]]:
  found = []
  for key, value in side.results.figures.items():
    level = re.fullmatch(r'codec_perplexity_(\d+)', key)
    if level and value is not None:
      found.append((float(level[1]), value))
  return sorted(found)


def _section(heading: str, parts: Sequence[str], kind: str) -> str:
  if not parts:
    return ''
  return f'<h2>{heading}</h2><div class="{kind}">{"".join(parts)}</div>'
