"""Writes docs/paper_conformance.md: `make conformance`."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from paper.chapters import CHAPTERS
from paper.mistakes import MISTAKES, holders
from paper.ours import ROOT, value
from paper.rows import ABSENT, DEPARTS, EQUAL, SILENT, Chapter, Claim, Number

from musiclm_jax.contracts.atomic_file import write_text

PAGE = ROOT / 'docs' / 'paper_conformance.md'
_MARKS = {EQUAL: '=', DEPARTS: '≠', SILENT: 'ours', ABSENT: 'none'}
_NAMED = 6  # quantities at most that a summary lists by name
_HEAD = """\
# The papers and this repository

<!-- Written by `make conformance` from tests/paper/; do not edit. -->

Every number of design that the papers behind MusicLM give, beside ours; what
they measured is in [published_figures.md](published_figures.md). Ours is read
from `configs/*.py:paper` and from the networks that these build, by the
expression in the last column; none is typed in by hand. Each row is a test
(`tests/paper/`): it fails when a value is no longer the paper's, and also when
a departure no longer is one. Behaviours name the tests that hold them. The
paper configs are built and traced; none has been trained here.

| mark | meaning | rows |
|---|---|---|
{counts}

Sources: where nothing is added, the paper itself was read. *Notes* are other
people's notes on it, *code* is public code, *memory* is what is known without a
source at hand, *derived* follows from other numbers.

## Where we depart

{departures}

## What is not here

{absences}

"""
_MEANINGS = {
  EQUAL: "the paper's value",
  DEPARTS: 'another value, with the reason',
  SILENT: 'the papers give no value; this is ours',
  ABSENT: 'nothing here corresponds to it',
}


def write() -> str:
  """Returns the whole page."""
  numbers = [(c, n) for c in CHAPTERS for n in c.numbers]
  counts = Counter(number.status for _, number in numbers)
  head = _HEAD.format(
    counts='\n'.join(
      f'| {_MARKS[s]} | {meaning} | {counts[s]} |'
      for s, meaning in _MEANINGS.items()
    ),
    departures=_departures(numbers),
    absences=_absences(numbers),
  )
  parts = [head, *(_chapter(chapter) for chapter in CHAPTERS), _mistakes()]
  return ''.join(parts).rstrip('\n') + '\n'


def _departures(numbers: Iterable[tuple[Chapter, Number]]) -> str:
  rows = [
    f'| {c.title} | {n.quantity} | {_text(n.paper)} | {_text(value(n.ours))} '
    f'| {n.departs} |'
    for c, n in numbers
    if n.status == DEPARTS
  ] + [
    f'| {c.title} | {claim.claim} | | | {claim.reason} |'
    for c in CHAPTERS
    for claim in c.claims
    if claim.reason
  ]
  return _table(('', 'quantity', 'paper', 'ours', 'reason'), rows)


def _absences(numbers: Iterable[tuple[Chapter, Number]]) -> str:
  """One line a reason: what a chapter lacks for it."""
  groups: dict[tuple[str, str], list[str]] = {}
  for c, n in numbers:
    if n.status == ABSENT:
      groups.setdefault((c.title, n.absent), []).append(n.quantity)
  return _table(
    ('', 'numbers', 'why'),
    [
      f'| {title} | {_names(names)} | {reason} |'
      for (title, reason), names in groups.items()
    ],
  )


def _names(quantities: list[str]) -> str:
  if len(quantities) > _NAMED:
    return f'{len(quantities)} numbers, see below'
  return '; '.join(quantities)


def _chapter(chapter: Chapter) -> str:
  text = f'## {chapter.title}\n\n'
  if chapter.numbers:
    header = ('', 'quantity', 'paper', 'ours', 'source', 'why; from')
    text += _table(header, [_number(n) for n in chapter.numbers]) + '\n\n'
  if chapter.claims:
    header = ('behaviour', 'source', 'held by')
    text += _table(header, [_claim(c) for c in chapter.claims]) + '\n\n'
  return text


def _number(number: Number) -> str:
  reason = number.departs or number.silent or number.absent
  origin = f'`{number.ours}`' if number.ours else ''
  remark = '; '.join(part for part in (reason, origin) if part)
  ours = _text(value(number.ours)) if number.ours else ''
  paper = '' if number.paper is None else _text(number.paper)
  return (
    f'| {_MARKS[number.status]} | {number.quantity} | {paper} | {ours} '
    f'| {number.source} | {_escape(remark)} |'
  )


def _claim(claim: Claim) -> str:
  held = [_link(node) for node in claim.tests]
  if claim.reason:
    held.append(f'departs: {claim.reason}')
  return f'| {claim.claim} | {claim.source} | {"; ".join(held)} |'


def _mistakes() -> str:
  held = holders()
  rows = []
  for mistake in MISTAKES:
    tests = [_link(node) for node in held.get(mistake.number, ())]
    cell = '; '.join(tests) or f'*{mistake.reason}*'
    rows.append(f'| {mistake.number} | {mistake.what} | {cell} |')
  intro = (
    'Seen in public code, with the tests that would find each here; a test '
    'names them in its docstring.\n\n'
  )
  return (
    '## Mistakes of earlier re-implementations\n\n'
    + intro
    + _table(('', 'what was done', 'held by'), rows)
  )


def _link(node: str) -> str:
  path, name = node.split('::')
  return f'[{name}](../tests/{path})'


def _table(header: tuple[str, ...], rows: list[str]) -> str:
  return '\n'.join(
    [f'| {" | ".join(header)} |', '|---' * len(header) + '|', *rows]
  )


def _escape(text: str) -> str:
  return text.replace('|', '\\|')


def _text(value: Any) -> str:
  """A value as a reader writes it."""
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, int):
    return f'{value:,}' if value >= 10_000 else str(value)
  if isinstance(value, float):
    return _text(int(value)) if value.is_integer() else f'{value:.7g}'
  if isinstance(value, tuple):
    nested = any(isinstance(item, tuple) for item in value)
    return ('; ' if nested else ', ').join(_text(item) for item in value)
  return str(value)


def main() -> None:
  """Writes the page, whole or not at all."""
  write_text(PAGE, write())
  print(f'wrote {PAGE.relative_to(ROOT)}')


if __name__ == '__main__':
  main()
