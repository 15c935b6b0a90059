"""The code that a command runs: module -> files -> one hash.

Imports count wherever they stand, in functions too, and so do those of what is
imported. The networks branch off in `stages`: of its tables' functions only
those are followed whose stages are built.
"""

import ast
import functools
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1].name
ROOT = Path(__file__).parents[2]
_TABLES = Path(PACKAGE, 'stages.py')


def files(
  module: str, stages: Collection[str] = (), root: Path = ROOT
) -> list[Path]:
  """Lists the files that a module runs through, itself included, sorted.

  Args:
    module: Dotted name, of this package or of one that imports it.
    stages: Those whose networks are built.
    root: Folder of both packages.
  """
  found, waiting = set(), [module]
  packages = {PACKAGE, module.partition('.')[0]}
  while waiting:
    name = waiting.pop()
    if name.partition('.')[0] not in packages:
      continue
    for path in _places(name, root):
      if path not in found:
        found.add(path)
        waiting += _imported(path, frozenset(stages), root)
  return sorted(found)


def digest(module: str, stages: Collection[str] = (), root: Path = ROOT) -> str:
  """SHA-256 of the names and contents of `files`."""
  sha256 = hashlib.sha256()
  for path in files(module, stages, root):
    name = path.relative_to(root).as_posix()
    sha256.update(name.encode() + b'\0' + path.read_bytes() + b'\0')
  return sha256.hexdigest()


def _places(module: str, root: Path) -> Iterator[Path]:
  """The files that importing a module runs: its packages' and its own."""
  folder, parts = root, module.split('.')
  for number, part in enumerate(parts):
    if parts[:number] == [PACKAGE, 'configs'] and (root / 'configs').is_dir():
      folder = root / 'configs'  # where a checkout has them
    if not (folder / part).is_dir():
      if (folder / f'{part}.py').is_file():
        yield folder / f'{part}.py'
      return
    folder = folder / part
    if (folder / '__init__.py').is_file():  # not of a namespace package
      yield folder / '__init__.py'


def _imported(path: Path, stages: frozenset[str], root: Path) -> list[str]:
  """Dotted names of what a file imports; some may be no modules."""
  status = path.stat()
  stamp = status.st_size, status.st_mtime_ns
  return _parsed(path, stamp, stages if path == root / _TABLES else None)


@functools.cache
def _parsed(
  path: Path, stamp: tuple, stages: frozenset[str] | None
) -> list[str]:
  del stamp  # of the content, which may be another the next time
  tree = ast.parse(path.read_bytes())
  skipped = set() if stages is None else _of_other_stages(tree, stages)
  names = []
  for node in _nodes(tree, skipped):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names += [f'{node.module}.{alias.name}' for alias in node.names]
  return names


def _nodes(node: ast.AST, skipped: Collection[str]) -> Iterator[ast.AST]:
  """All nodes but those of functions to skip, and what only types need."""
  yield node
  for child in ast.iter_child_nodes(node):
    match child:
      case ast.FunctionDef(name=name) if name in skipped:
        continue
      case ast.If(test=ast.Name(id='TYPE_CHECKING')):
        continue
    yield from _nodes(child, skipped)


def _of_other_stages(tree: ast.Module, stages: Collection[str]) -> set[str]:
  """Functions that tables name for stages which are not built."""
  used, others = set(), set()
  for table in (getattr(node, 'value', None) for node in tree.body):
    if isinstance(table, ast.Dict):
      for key, value in zip(table.keys, table.values, strict=True):
        if isinstance(key, ast.Constant):
          named = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
          (used if key.value in stages else others).update(named)
  return others - used
