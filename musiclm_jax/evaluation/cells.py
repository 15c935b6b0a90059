"""Cells of tables: a figure and its details -> HTML."""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

_SIDES = ('reference', 'generated')


def number(value: float | None) -> str:
  """A figure for people; a dash where there is none."""
  return '–' if value is None else f'{value:.4g}'.replace('-', '−')


def bounds(facts: Mapping[str, Any]) -> str:
  """The bounds of a figure, by its details; empty where there are none."""
  found = facts.get('interval')
  return f'[{number(found[0])}, {number(found[1])}]' if found else ''


def with_bounds(value: float | None, facts: Mapping[str, Any]) -> str:
  """A figure with its bounds below."""
  found = bounds(facts)
  below = f'<br><span class="bounds">{found}</span>' if found else ''
  return number(value) + below


def count(n: Any) -> str:
  """What a figure counts; of both sides, as reference : generated."""
  if not isinstance(n, Mapping):
    return '' if n is None else html.escape(str(n))
  rest, parts = dict(n), []
  for suffix, unit in (('', 'windows'), ('_clips', 'clips')):
    both = [rest.pop(f'{side}{suffix}', None) for side in _SIDES]
    if None not in both:
      parts.append(f'{both[0]} : {both[1]} {unit}')
  parts += (f'{size} {name.replace("_", " ")}' for name, size in rest.items())
  return html.escape(', '.join(parts))


def origin(details: Sequence[Mapping[str, Any]]) -> str:
  """Networks of figures: name, hash and windowing."""
  hashes: dict[tuple[str, str], dict[str, None]] = {}
  for facts in details:
    name = facts.get('embedder') or facts.get('classifier') or ''
    known = hashes.setdefault((name, facts.get('windowing', '')), {})
    known[str(facts.get('sha256', ''))[:12]] = None
  told = (
    ', '.join(filter(None, (name, *known, windowing)))
    for (name, windowing), known in hashes.items()
  )
  return '<br>'.join(html.escape(one) for one in told if one)


def labels(details: Sequence[Mapping[str, Any]]) -> str:
  """What a reader must know of each network, once; a list."""
  named: dict[str, dict[str, None]] = {}
  for facts in details:
    name = facts.get('embedder') or facts.get('classifier')
    if name and facts.get('label'):
      named.setdefault(facts['label'], {})[name] = None
  items = ''.join(
    f'<li>{html.escape(", ".join(names))}: {html.escape(label)}</li>'
    for label, names in named.items()
  )
  return f'<ul>{items}</ul>' if items else ''


def facts_table(facts: Mapping[str, Any]) -> str:
  """A table of names and values."""
  rows = ''.join(
    f'<tr><td>{html.escape(name.replace("_", " "))}</td>'
    f'<td>{html.escape(_told(value))}</td></tr>'
    for name, value in facts.items()
  )
  return f'<table class="facts">{rows}</table>'


def _told(value: Any) -> str:
  if isinstance(value, Mapping):
    return ', '.join(f'{name} {_told(one)}' for name, one in value.items())
  if isinstance(value, list | tuple):
    return ', '.join(map(_told, value)) or 'none'
  if isinstance(value, int) and not isinstance(value, bool):
    return f'{value:,}'
  if value is None:
    return 'none'
  return value if isinstance(value, str) else json.dumps(value)
