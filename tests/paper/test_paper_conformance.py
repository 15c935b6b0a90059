"""Every number of the papers is ours, or a departure that says why."""

import ast
import functools
import re

import pytest
from paper import page
from paper.chapters import CHAPTERS
from paper.mistakes import MISTAKES, TESTS, holders, nodes
from paper.ours import ROOT, value
from paper.rows import ABSENT, DEPARTS, EQUAL, Number

NUMBERS = {
  f'{chapter.title}: {number.quantity}': number
  for chapter in CHAPTERS
  for number in chapter.numbers
}
CLAIMS = [claim for chapter in CHAPTERS for claim in chapter.claims]


@functools.cache
def _sources() -> dict[str, str]:
  """Reads all code: path -> name and content in small letters."""
  return {
    path.relative_to(ROOT).as_posix(): f'{path.name} {path.read_text()}'.lower()
    for folder in ('musiclm_jax', 'configs')
    for path in sorted((ROOT / folder).rglob('*.py'))
  }


def _matches(pattern: str) -> list[str]:
  """Files that a pattern matches, by name or content."""
  return [path for path, text in _sources().items() if re.search(pattern, text)]


@pytest.mark.parametrize('name', NUMBERS)
def test_paper_number(name):
  number = NUMBERS[name]
  if number.status == ABSENT:
    found = _matches(number.pattern)
    assert not found, f'no longer absent: write its expression ({found})'
    return
  ours = value(number.ours)
  if number.status == EQUAL:
    assert ours == number.paper, number.ours
  elif number.status == DEPARTS:
    assert ours != number.paper, 'no departure any more: remove its reason'


@pytest.mark.parametrize('claim', CLAIMS, ids=lambda claim: claim.claim)
def test_tests_of_a_behaviour_exist(claim):
  assert claim.tests
  for node in claim.tests:
    path, name = node.split('::')
    assert name in nodes(TESTS / path), node


@pytest.mark.parametrize('mistake', MISTAKES, ids=lambda m: m.number)
def test_a_mistake_is_held_by_tests_or_cannot_be_made(mistake):
  held = holders().get(mistake.number)
  assert bool(held) != bool(mistake.reason), held
  assert not mistake.pattern or not _matches(mistake.pattern), 'can be made now'


def test_tests_name_known_mistakes_only():
  assert holders().keys() <= {m.number for m in MISTAKES}


def test_no_value_of_ours_is_typed_in_by_hand():
  for name, number in NUMBERS.items():
    if number.ours:
      tree = ast.parse(number.ours, mode='eval')
      assert any(isinstance(n, ast.Name) for n in ast.walk(tree)), name


def test_no_row_hides_another():
  assert len(NUMBERS) == sum(len(c.numbers) for c in CHAPTERS)
  assert len({c.title for c in CHAPTERS}) == len(CHAPTERS)


@pytest.mark.parametrize(
  'fields',
  [
    {'paper': 1},  # neither ours nor a reason
    {'paper': 1, 'source': 'x', 'absent': 'y'},  # nothing would show it
    {'paper': 1, 'ours': '1', 'source': 'x', 'absent': 'y', 'pattern': 'z'},
    {'paper': 1, 'ours': '1', 'silent': 'y'},
    {'paper': 1, 'ours': '1', 'source': 'x', 'departs': 'y', 'silent': 'z'},
  ],
)
def test_a_row_that_contradicts_itself_is_refused(fields):
  with pytest.raises(ValueError, match='contradicts'):
    _ = Number('quantity', **fields).status


def test_the_page_is_what_is_written_now():
  assert page.PAGE.read_text() == page.write(), 'run make conformance'
