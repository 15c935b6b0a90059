"""The generate command: sentences in, sound files out, bad calls refused."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade import provenance


@pytest.fixture(scope='module')
def pair(bundle, run_command, tmp_path_factory):
  """Two prompts in one call; (folder, finished process)."""
  folder = tmp_path_factory.mktemp('samples')
  done = run_command(
    'generate',
    f'--bundle={bundle[0]}',
    '--text=slow piano',
    '--text=a theremin waltz, whistled',
    '--seconds=1.23',
    '--seed=7',
    f'--out={folder}/x.wav',
  )
  return folder, done


def test_each_text_becomes_a_file_of_the_asked_length(pair):
  folder, done = pair
  assert done.returncode == 0, done.stderr
  names = {path.name for path in folder.iterdir()}
  assert names == {'x_0.wav', 'x_0.json', 'x_1.wav', 'x_1.json'}
  for number in range(2):
    waveform, rate = soundfile.read(folder / f'x_{number}.wav')
    assert rate == 24000 and waveform.shape == (round(1.23 * 24000),)
    assert np.abs(waveform).max() <= 1.0


def test_unknown_words_are_named_to_the_user(pair):
  unread, unknown = (
    line.split('not know: ')[1]
    for line in pair[1].stderr.splitlines()
    if 'not know' in line
  )
  assert unread.startswith('theremin, nor the letters')
  assert unknown.startswith('whistled (nearest: ')
  taken = json.loads((pair[0] / 'x_1.json').read_text())['unknown_words']
  assert taken['theremin'] == [] and len(taken['whistled']) == 2
  assert ', '.join(taken['whistled']) in unknown
  other = json.loads((pair[0] / 'x_0.json').read_text())
  assert other['unknown_words'] == {}


def test_files_say_where_they_come_from(pair, bundle):
  about = provenance.read_provenance(pair[0] / 'x_1.wav')
  assert about == json.loads((pair[0] / 'x_1.json').read_text())
  assert about['prompt'] == 'a theremin waltz, whistled'
  assert about['seed'] == 7 and about['row'] == 1
  assert about['bundle_sha256'] == bundles.read(bundle[0]).sha256
  assert about['versions']['jax']
  assert about['settings']['temperature_fine'] == 0.4


def test_the_seed_decides_and_a_row_is_itself(
  pair, bundle, run_command, tmp_path
):
  """A prompt alone sounds as it does in company: keys are per row."""
  for seed in (7, 8):
    done = run_command(
      'generate',
      f'--bundle={bundle[0]}',
      '--text=slow piano',
      '--seconds=1.23',
      f'--seed={seed}',
      f'--out={tmp_path}/{seed}.wav',
    )
    assert done.returncode == 0, done.stderr
  first, _ = soundfile.read(pair[0] / 'x_0.wav')
  same, _ = soundfile.read(tmp_path / '7.wav')
  other, _ = soundfile.read(tmp_path / '8.wav')
  np.testing.assert_allclose(same, first, atol=1e-3)
  assert np.abs(other - first).max() > 1e-3


@pytest.mark.parametrize(
  'changes, word',
  [
    ({'bundle': '/nowhere'}, 'nowhere'),
    ({'text': ''}, 'text'),
    ({'text': '  '}, 'text'),
    ({'seconds': '0'}, 'seconds'),
    ({'seconds': '3601'}, 'seconds'),
    ({'seconds': 'nan'}, 'seconds'),
    ({'out': '/proc/x.wav'}, 'x.wav'),
    ({'out': '{tmp}/x.mp3'}, '.wav'),
    ({'temperature_fine': '-1'}, 'temperature_fine'),
    ({'mulan_levels': '13'}, 'mulan_levels'),
    ({'seed': '-1'}, 'seed'),
  ],
)
def test_bad_calls_are_refused_in_one_line(
  bundle, run_command, tmp_path, changes, word
):
  arguments = {
    'bundle': bundle[0],
    'text': 'piano',
    'seconds': '1',
    'out': '{tmp}/x.wav',
  } | changes
  done = run_command(
    'generate',
    *(
      f'--{name}={value}'.replace('{tmp}', str(tmp_path))
      for name, value in arguments.items()
    ),
  )
  assert done.returncode == 2, done.stderr
  assert 'Traceback' not in done.stderr
  assert word in done.stderr.strip().splitlines()[-1]
  assert list(tmp_path.iterdir()) == [], 'nothing is left behind'


def test_a_damaged_bundle_names_its_file(bundle, run_command, tmp_path):
  shutil.copytree(bundle[0], tmp_path / 'hurt')
  largest = max(
    (p for p in (tmp_path / 'hurt').rglob('*') if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  with open(largest, 'r+b') as file:
    file.truncate(100)
  done = run_command(
    'generate',
    f'--bundle={tmp_path}/hurt',
    '--text=piano',
    '--seconds=1',
    f'--out={tmp_path}/x.wav',
  )
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  last = done.stderr.strip().splitlines()[-1]
  assert largest.name in last and largest.parent.name in last
  assert not (tmp_path / 'x.wav').exists()
