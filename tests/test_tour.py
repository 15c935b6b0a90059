"""docs/tour.md names what there is, with the floors of .importlinter."""

import ast
import configparser
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / 'docs' / 'tour.md').read_text(encoding='utf-8')
PLACES = (
  ROOT / 'musiclm_jax',
  ROOT,
  ROOT / 'experiments' / 'tiny_cascade',
)
STOPS = sorted(set(re.findall(r'`([\w/]+\.py):([\w.]+)`', TOUR)))


def find(file):
  return next((p / file for p in PLACES if (p / file).is_file()), None)


def defined(node):
  """Names that a module or class binds -> what they are bound to."""
  names = {}
  for child in node.body:
    if isinstance(child, ast.FunctionDef | ast.ClassDef):
      names[child.name] = child
    elif isinstance(child, ast.Assign | ast.AnnAssign):
      targets = getattr(child, 'targets', None) or [child.target]
      names |= {t.id: child for t in targets if isinstance(t, ast.Name)}
  return names


@pytest.mark.parametrize(('file', 'name'), STOPS, ids=map(':'.join, STOPS))
def test_a_stop_is_there(file, name):
  path = find(file)
  assert path, f'no file {file}'
  node = ast.parse(path.read_text(encoding='utf-8'))
  for part in name.split('.'):
    assert part in defined(node), f'{file} has no {name}'
    node = defined(node)[part]


def test_what_is_named_alone_is_there():
  files = set(re.findall(r'`([\w/]+\.py)`', TOUR))
  package = ROOT / 'musiclm_jax'
  for file in files - {file for file in files if find(file)}:
    assert any(package.rglob(file)), file
  for folder in re.findall(r'`([\w/]+)/`', TOUR):
    assert any((place / folder).is_dir() for place in PLACES), folder
  for name in re.findall(r'`([A-Z]\w+)\.(\w+)`', TOUR):
    texts = (path.read_text(encoding='utf-8') for path in package.rglob('*.py'))
    assert any(
      name[1] in defined(defined(ast.parse(text))[name[0]])
      for text in texts
      if re.search(rf'^class {name[0]}\b', text, re.MULTILINE)
    ), name


def test_a_path_has_eight_stops_at_most():
  paths = re.split(r'^## ', TOUR, flags=re.MULTILINE)[1:5]
  for path in paths:
    assert path.startswith('Where a')
    stops = re.findall(r'^(\d)\. `[\w/]+\.py:', path, flags=re.MULTILINE)
    assert stops == [str(n + 1) for n in range(len(stops))]
    assert 1 <= len(stops) <= 8


def test_the_rooms_stand_on_their_floors():
  plan = configparser.ConfigParser()
  plan.read(ROOT / '.importlinter')
  layers = plan['importlinter:contract:layers']['layers'].split('\n')
  floors = [
    {module.strip().removeprefix('musiclm_jax.') for module in layer.split('|')}
    for layer in layers
    if layer
  ]
  told = defaultdict(set)
  for floor, room, what in re.findall(
    r'^\| (\d+) \| (.*?) \| (.*) \|$', TOUR, re.MULTILINE
  ):
    names = re.findall(
      r'`(\w+)(?:/|\.py)`', room if room.startswith('`') else what
    )
    told[int(floor)].update(names)
  assert [told[floor] for floor in sorted(told, reverse=True)] == floors
  rooms = {p.parent.name for p in (ROOT / 'musiclm_jax').glob('*/__init__.py')}
  assert rooms <= set().union(*floors)
