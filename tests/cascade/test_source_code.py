"""The code of a command is all that it imports, and nothing of the others."""

import shutil

import pytest

from musiclm_jax.cascade import source_code

TRAIN = 'musiclm_jax.train'
ROOT = source_code.ROOT
PACKAGE = ROOT / 'musiclm_jax'


def names(module, stages=()):
  files = source_code.files(module, stages)
  return {path.relative_to(PACKAGE).as_posix() for path in files}


def test_what_a_training_imports_in_truth_is_among_its_files(run_python):
  code = (
    'import runpy, sys; from musiclm_jax import stages, train; '
    'from musiclm_jax.cascade import stage_data; '
    'from musiclm_jax.data.sources import _OPENERS; '
    "stages.build(runpy.run_path('configs/mulan.py')['get_config']('tiny')); "
    'print(*(m.__file__ for n, m in sys.modules.items() '
    "if n.startswith('musiclm_jax') and m.__file__))"
  )
  printed = run_python(code)
  found = {str(path) for path in source_code.files(TRAIN, ['mulan'])}
  configs = str(ROOT / 'configs')
  imported = {p for p in printed.split() if not p.startswith(configs)}
  assert len(imported) > 60 and imported <= found, imported - found


@pytest.mark.parametrize(
  'module, stages, needed, spare',
  [
    (
      TRAIN,
      ['mulan_rvq'],
      ('embedding_rvq/task.py', 'stages.py', 'cascade/stage_data.py'),
      ('mulan/task.py', 'token_lm/task.py'),
    ),
    (TRAIN, ['mulan'], ('interop/bert.py', 'nn/conv.py'), ('melody/',)),
    (TRAIN, ['fine'], ('contracts/sharding.py',), ('soundstream/task.py',)),
    (
      'musiclm_jax.prepare',
      [],
      ('rendered_music/composer.py', 'rendered_music/__init__.py'),
      ('training/loop.py', 'metrics/codec.py'),
    ),
    (
      'musiclm_jax.generate',
      [],
      ('cascade/generator.py', 'contracts/token_contract.py'),
      ('tokenize.py', 'rehearsal/table.py', 'metrics/'),
    ),
  ],
)
def test_rooms_count_that_are_imported_and_no_others(
  module, stages, needed, spare
):
  found = names(module, stages)
  assert set(needed) <= found
  assert not any(name.startswith(spare) for name in found)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  """The folder of a copy of the package that may be edited."""
  folder = tmp_path_factory.mktemp('code')
  ignored = shutil.ignore_patterns('__pycache__')
  shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=ignored)
  return folder


def test_an_edit_in_any_room_that_a_stage_imports_changes_its_hash(
  root,
):
  stages = ['mulan']
  before = source_code.digest(TRAIN, stages, root)
  rooms = {path.parent: path for path in source_code.files(TRAIN, stages, root)}
  assert len(rooms) > 8
  for path in rooms.values():
    text = path.read_text()
    path.write_text(text + '# edited\n')
    assert source_code.digest(TRAIN, stages, root) != before, path
    path.write_text(text)
  other = root / PACKAGE.name / 'melody' / 'task.py'
  other.write_text(other.read_text() + '# edited\n')
  assert source_code.digest(TRAIN, stages, root) == before


def test_a_new_import_is_followed_at_once(root):
  path = root / PACKAGE.name / 'nn' / 'dropout.py'
  before = source_code.files(TRAIN, ['fine'], root)
  path.write_text(
    path.read_text() + '\n\ndef late():\n  from musiclm_jax.nn import kmeans\n'
  )
  after = source_code.files(TRAIN, ['fine'], root)
  assert root / PACKAGE.name / 'nn' / 'kmeans.py' in {*after} - {*before}


def test_code_that_imports_the_package_counts_with_what_it_imports(root):
  folder = root / 'studies' / 'one'
  folder.mkdir(parents=True)
  (folder / 'run.py').write_text('from studies.one import part\n')
  (folder / 'part.py').write_text('from musiclm_jax.nn import dropout\n')
  found = source_code.files('studies.one.run', (), root)
  assert {folder / 'run.py', folder / 'part.py'} <= {*found}
  assert root / PACKAGE.name / 'nn' / 'dropout.py' in found
