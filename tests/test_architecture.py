"""The layout of the package: layers, sizes of files, one loop."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'musiclm_jax'
SOURCES = sorted(PACKAGE.rglob('*.py'))
EXPERIMENTS = sorted((ROOT / 'experiments').rglob('*.py'))


def test_imports_point_down():
  """import-linter checks the layers of .importlinter."""
  linter = Path(sys.executable).with_name('lint-imports')
  run = subprocess.run(
    [linter, '--no-cache'], cwd=ROOT, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stdout + run.stderr


def test_data_knows_numpy_and_no_jax():
  for path in (PACKAGE / 'data').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module or '']
      assert not any(n.split('.')[0] in ('jax', 'flax') for n in names), path


def test_only_commands_and_stages_read_configs():
  readers = {
    path.relative_to(PACKAGE).as_posix()
    for path in SOURCES
    if re.search(r'^\s*(from|import) ml_collections', path.read_text(), re.M)
  }
  assert all('/' not in reader for reader in readers), readers


@pytest.mark.parametrize(
  'path', SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_files_are_short_and_documented(path):
  text = path.read_text()
  tree = ast.parse(text)
  assert text.count('\n') <= 500
  assert ast.get_docstring(tree), 'module without a docstring'
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef):
      length = node.end_lineno - node.lineno + 1
      length -= (ast.get_docstring(node) or '').count('\n')
      assert length <= 65, f'{node.name} has {length} lines'
  for node in tree.body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      public = not node.name.startswith('_')
      assert not public or ast.get_docstring(node), node.name


def test_no_package_is_called_utils():
  forbidden = {'utils', 'util', 'common', 'helpers', 'misc'}
  assert not [p for p in PACKAGE.rglob('*') if p.stem in forbidden]


def test_a_class_name_means_one_thing():
  names = Counter(
    node.name
    for path in SOURCES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ClassDef)
  )
  assert not [name for name, count in names.items() if count > 1]


def _is_private(name):
  return name.startswith('_') and not name.endswith('__')


@pytest.mark.parametrize(
  'path',
  [p for p in EXPERIMENTS if 'musiclm_jax' in p.read_text()],
  ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_experiments_use_public_names_only(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom):
      ours = (node.module or '').startswith('musiclm_jax')
      private = ours and any(_is_private(a.name) for a in node.names)
      assert not private, f'line {node.lineno}'
    elif isinstance(node, ast.Attribute) and _is_private(node.attr):
      holder = ast.unparse(node.value)
      assert holder in ('self', 'cls'), f'line {node.lineno}: {node.attr}'
