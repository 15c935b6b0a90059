"""What setup.py asks for is what the code imports, and no more."""

import ast
import functools
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import setup_lists
from setup_lists import DISTRIBUTIONS, name_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'musiclm_jax'
# What a user of trained networks runs: needs nothing but the core.
CORE_COMMANDS = ('generate', 'search')
# Not imported by its name: another package's need, or looked up as a file.
INDIRECT = {'importlib-resources', 'pretty-midi'}
# Tried, and done without where it is missing.
OPTIONAL = {'compression', 'visqol', 'zstandard'}


@functools.cache
def _imports(path: Path) -> frozenset[str]:
  """Full names of what a file imports, also within functions."""
  found, nodes = set(), [ast.parse(path.read_text())]
  while nodes:
    node = nodes.pop()
    match node:
      case ast.If(test=ast.Name(id='TYPE_CHECKING')):
        continue  # what only types need
    nodes += ast.iter_child_nodes(node)
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return frozenset(found)


def _foreign(paths: Iterable[Path]) -> set[str]:
  """Distributions that some files import."""
  roots = {name.partition('.')[0] for p in paths for name in _imports(p)}
  known = {*sys.stdlib_module_names, *OPTIONAL, 'musiclm_jax'}
  return {name_of(DISTRIBUTIONS.get(root, root)) for root in roots - known}


def _file(module: str) -> Path | None:
  """Where a module of the package, or what it holds, is defined."""
  parts = module.split('.')
  while parts and parts[0] == 'musiclm_jax':
    path = ROOT.joinpath(*parts)
    for found in (path.with_suffix('.py'), path / '__init__.py'):
      if found.exists():
        return found
    parts.pop()
  return None


def _reached(commands: Iterable[str]) -> set[Path]:
  """Files of the package that commands import at any depth."""
  reached, todo = set(), [PACKAGE / f'{name}.py' for name in commands]
  while todo:
    path = todo.pop()
    if path not in reached:
      reached.add(path)
      todo.extend(filter(None, map(_file, _imports(path))))
  return reached


def test_all_that_is_imported_is_asked_for():
  asked = set().union(*setup_lists.asked().values())
  assert _foreign(PACKAGE.rglob('*.py')) <= asked


def test_the_core_is_what_making_music_imports():
  # tqdm draws the progress of the commands.
  assert (
    _foreign(_reached(CORE_COMMANDS)) | {'tqdm'} == setup_lists.asked()['core']
  )


@pytest.mark.parametrize('extra', ['train', 'demo', 'serve'])
def test_all_that_an_extra_asks_for_is_imported(extra):
  # The demonstration lies beside the package.
  beside = (ROOT / 'experiments').rglob('*.py') if extra == 'demo' else ()
  imported = _foreign([*PACKAGE.rglob('*.py'), *beside])
  assert setup_lists.asked()[extra] - INDIRECT <= imported


def test_nothing_is_asked_for_twice():
  for extra in ('train', 'demo', 'serve'):
    assert not setup_lists.asked()[extra] & setup_lists.asked()['core'], extra
  assert not setup_lists.asked()['demo'] & setup_lists.asked()['train']


def test_all_versions_are_pinned():
  lines = (ROOT / 'requirements.txt').read_text().splitlines()
  pinned = {name_of(line) for line in lines if '==' in line}
  # The GPU's libraries are not for the machine that `make` installs on.
  asked = set().union(*setup_lists.asked().values())
  assert asked <= pinned, asked - pinned


def test_one_version_stands_everywhere():
  version = re.search(
    r"__version__ = '(.+)'", (PACKAGE / '__init__.py').read_text()
  )[1]
  cited = re.search(
    r'^version: (.+)$', (ROOT / 'CITATION.cff').read_text(), re.M
  )
  told = re.search(r'^## ([\d.]+)', (ROOT / 'CHANGELOG.md').read_text(), re.M)
  assert cited[1] == told[1] == version
