"""The configs: what they share, what they leave open, and where they are."""

import os
import runpy
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import musiclm_jax
from musiclm_jax import configs, path_flags, stages
from musiclm_jax.nn.relative_bias import relative_bucket

ROOT = Path(__file__).parents[1]
CASES = [
  (name, size)
  for name in configs.names()
  for size in runpy.run_path(str(configs.FOLDER / f'{name}.py'))['SIZES']
]
LMS = ('semantic', 'coarse', 'fine')
FITS = ('kmeans', 'mulan_rvq', 'melody_rvq')
# (optimizer, peak, parameters' devices, steps, batch, seconds of a crop).
PINNED = {
  ('soundstream', 'paper'): ('adam', 2e-4, 1, 1_000_000, 128, 1.0),
  ('w2v_bert', 'paper'): ('adam', 2e-3, 0, 400_000, 2048, 30.0),
  ('mulan', 'paper'): ('adam', 1e-4, 1, 100_000, 6144, 10.0),
  ('mulan', 'paper_ast'): ('adam', 5e-5, 1, 120_000, 5120, 10.0),
  ('mulan', 'tiny_minilm'): ('muon', 4e-3, 1, 120, 32, 10.0),
  ('melody', 'paper'): ('adam', 3e-4, 1, 100_000, 1024, 4.0),
  ('semantic', 'tiny'): ('muon', 5e-3, 1, 1600, 8, 10.0),
  ('coarse', 'tiny'): ('muon', 5e-3, 1, 2200, 8, 2.4),
  ('fine', 'tiny'): ('muon', 5e-3, 1, 700, 4, 1.6),
  ('semantic', 'small'): ('adamw', 1e-3, 1, 20_000, 64, 30.0),
  ('semantic', 'paper'): ('adamw', 3e-4, 0, 1_000_000, 1024, 30.0),
  ('coarse', 'paper'): ('adamw', 3e-4, 0, 1_000_000, 1024, 10.0),
  ('fine', 'paper'): ('adamw', 3e-4, 0, 1_000_000, 1024, 3.0),
  ('parallel', 'tiny'): ('muon', 5e-3, 1, 2200, 16, 2.4),
  ('parallel', 'paper'): ('adamw', 3e-4, 0, 1_000_000, 1024, 30.0),
}
DISTANCES = {
  'semantic': {'tiny': 262, 'small': 762, 'paper': 762},
  'coarse': {'tiny': 552, 'small': 2262, 'paper': 2262},
  'fine': {'tiny': 972, 'small': 1212, 'paper': 1812},
}


def load(name, size):
  path = configs.FOLDER / f'{name}.py'
  return runpy.run_path(str(path))['get_config'](size)


def test_the_configs_are_the_stages():
  assert configs.names() == sorted(stages.STAGES)
  assert configs.FOLDER == ROOT / 'configs'


@pytest.mark.parametrize(('name', 'size'), PINNED)
def test_what_sizes_share_reaches_each_of_them(name, size):
  config = load(name, size)
  player = next(iter(config.optimizer.values()))
  found = (
    player.name,
    player.learning_rate,
    config.mesh.fsdp,
    config.schedule.total_steps,
    config.data.batch_size,
    config.data.crop_seconds,
  )
  assert found == PINNED[name, size]


@pytest.mark.parametrize(('name', 'size'), CASES)
def test_a_config_shares_nothing_with_the_next_one(name, size):
  first, again = load(name, size), load(name, size)
  before = again.to_dict()

  def spoil(node):
    for key, value in node.items():
      if hasattr(value, 'items'):
        spoil(value)
      elif value is None:
        node[key] = 7
      elif isinstance(value, int | float):
        node[key] = type(value)(value + 1)

  spoil(first)
  assert again.to_dict() == before == load(name, size).to_dict()
  assert first.to_dict() != before


@pytest.mark.parametrize(('name', 'size'), CASES)
def test_only_players_with_parameters_have_an_optimizer(name, size):
  assert bool(load(name, size).optimizer) != (name in FITS)


@pytest.mark.parametrize('size', ['tiny', 'small', 'paper'])
@pytest.mark.parametrize('name', LMS)
def test_distances_span_the_layout_if_nothing_else_is_said(name, size):
  config = load(name, size)

  def distance():
    return stages.resolved(config.to_dict())['model']['relative_max_distance']

  assert distance() == DISTANCES[name][size]
  if name != 'fine':
    config.layout.melody = True
    config.data.crop_seconds = 10.0
    layout = stages.build(config).lm.layout
    assert distance() == layout.num_tokens
    assert layout.melody.num_frames == 3
  config.model.relative_max_distance = 50
  assert distance() == 50


@pytest.mark.parametrize(
  ('size', 'frames'), [('tiny', 120), ('small', 500), ('paper', 1500)]
)
def test_distances_of_the_parallel_lm_are_in_frames(size, frames):
  config = stages.resolved(load('parallel', size).to_dict())
  assert config['model']['relative_max_distance'] == frames
  assert stages.batch_shapes(config)['acoustic'].shape[1] == frames


@pytest.mark.parametrize('size', ['tiny', 'small', 'paper'])
def test_what_makes_tokens_is_fitted_at_the_length_that_the_lms_read(size):
  """Mistake 21: what a clip's tokens are depends on how long it is.

  Records of a token store are as long as the longest crop of an LM, and those
  of `tokenize` where nobody says otherwise, 10 s. `melody_rvq` is left out:
  windows of a melody do not see each other.
  """
  record = max(load(name, size).data.crop_seconds for name in LMS)
  if size == 'tiny':
    record = 10.0
  fits = {load(name, size).data.crop_seconds for name in FITS[:2]}
  assert fits == {record}


def test_tokens_of_small_do_not_depend_on_the_length():
  config = load('w2v_bert', 'small')
  assert config.model.attention_seconds == 2.0
  context = stages.build_inference(config).context_frames / 25
  # A record has tokens that no edge can change.
  assert 2 * context < load('semantic', 'small').data.crop_seconds
  for size in ('tiny', 'paper'):
    config = load('w2v_bert', size)
    assert config.model.attention_seconds is None
    assert stages.build_inference(config).context_frames is None


def test_a_short_crop_has_a_bucket_for_every_distance():
  config = load('semantic', 'tiny')
  config.data.crop_seconds = 1.0
  lm = stages.build(config).lm
  assert lm.layout.num_tokens == 37
  distances = np.arange(lm.layout.num_tokens)
  buckets = relative_bucket(
    distances,
    num_buckets=config.model.relative_buckets,
    max_distance=lm.model.transformer.relative_max_distance,
    bidirectional=False,
  )
  np.testing.assert_array_equal(buckets, distances)


def test_a_name_is_a_config_and_a_file_of_that_name_is_a_file(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  ours = str(configs.FOLDER / 'semantic.py')
  (tmp_path / 'semantic').mkdir()
  for given, file in (
    ('semantic', ours),
    ('semantic:tiny', f'{ours}:tiny'),
    ('semantic.py:tiny', 'semantic.py:tiny'),
    ('configs/semantic.py', 'configs/semantic.py'),
    ('base:tiny', 'base:tiny'),
  ):
    assert path_flags.expand_config(['train', f'--config={given}']) == [
      *('train', f'--config={file}')
    ]
  (tmp_path / 'fine').write_text('')
  expanded = path_flags.expand_config(['x', '--config', 'fine'])
  assert expanded == ['x', '--config=fine']


def call(site, folder, *arguments):
  """Runs a training of the package at `site` in a folder."""
  return subprocess.run(
    [sys.executable, '-m', 'musiclm_jax.train', *arguments],
    cwd=folder,
    env=os.environ | {'PYTHONPATH': str(site)},
    capture_output=True,
    text=True,
  )


def check_names(site, folder):
  """Configs are found by name where there is no checkout."""
  folder.mkdir()
  done = call(site, folder, '--config=semantic:tiny', '--help')
  assert done.returncode == 0, done.stderr
  done = call(site, folder, '--config=coarse:huge')
  assert done.returncode == 2
  assert f'{site}/musiclm_jax/configs/coarse.py' in done.stderr
  assert 'choose one of tiny, small, paper' in done.stderr
  done = call(site, folder, '--config=semantik:tiny')
  assert done.stderr.endswith(f'{", ".join(configs.names())}\n'), done.stderr
  assert not list(folder.iterdir())


def test_a_package_that_carries_its_configs_needs_no_checkout(tmp_path):
  site = tmp_path / 'site'
  package = Path(musiclm_jax.__file__).parent
  ignored = shutil.ignore_patterns('__pycache__')
  shutil.copytree(package, site / package.name, ignore=ignored)
  inside = site / package.name / 'configs'
  shutil.copytree(configs.FOLDER, inside, ignore=ignored, dirs_exist_ok=True)
  check_names(site, tmp_path / 'empty')


@pytest.mark.soak
def test_a_wheel_carries_the_configs(tmp_path):
  """Built of a copy, as a clone has it; pip fetches setuptools for that."""
  source, site = tmp_path / 'source', tmp_path / 'site'
  tracked = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True
  ).stdout.split('\0')[:-1]
  for name in tracked:
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, source / name)
  pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
  subprocess.run(
    [*pip, *('install', '-q', '--no-deps', '--target'), site, source],
    check=True,
  )
  carried = site / 'musiclm_jax' / 'configs'
  for file in (ROOT / 'configs').rglob('*.py'):
    name = file.relative_to(ROOT / 'configs')
    assert (carried / name).read_text() == file.read_text()
  check_names(site, tmp_path / 'empty')


@pytest.mark.soak
def test_an_editable_install_finds_the_checkouts_configs(tmp_path):
  venv.create(tmp_path / 'venv', with_pip=True)
  python = tmp_path / 'venv' / 'bin' / 'python'
  pip = (python, '-m', 'pip', '--disable-pip-version-check')
  subprocess.run(
    [*pip, *('install', '-q', '--no-deps', '--editable'), ROOT], check=True
  )
  code = 'from musiclm_jax import configs; print(configs.FOLDER)'
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  done = subprocess.run(
    [python, '-c', code],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.stdout.strip() == str(ROOT / 'configs'), done.stderr
