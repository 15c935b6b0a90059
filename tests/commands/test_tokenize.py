"""The tokenize command: music in, a token store out, bad calls refused."""

import json
import shutil

import numpy as np
import pytest

from musiclm_jax.cascade import networks
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenContract
from musiclm_jax.data.batches import token_batches
from musiclm_jax.data.token_store import TokenStore


def test_a_folder_of_music_becomes_a_token_store(tokens):
  folder, done = tokens
  assert done.returncode == 0, done.stderr
  assert 'skipped 1 of 7' in done.stderr and 'broken.mp3' in done.stderr
  assert 'train: 8 crops in' in done.stderr
  sizes = {}
  for split in ('train', 'validation', 'test'):
    store = TokenStore(folder, split)
    sizes[split] = len(store)
    record = store.record(0)
    assert record.semantic.shape == (50,)
    assert record.acoustic.shape == (100, 4)
    assert record.mulan.shape == (12,)
    assert (record.mulan_text is None) == (split == 'train')
    for stream in (record.mulan, record.semantic, record.acoustic):
      assert stream.min() >= 0 and stream.max() < 16
  # Six files of 4.5 s in crops of 2 s.
  assert sum(sizes.values()) == 12


def test_batches_of_the_store_feed_every_stage(tokens):
  store = TokenStore(tokens[0], 'train')
  for seconds in (2.0, 0.4, 0.24):
    batch = next(
      token_batches(
        store,
        batch_size=2,
        crop_seconds=seconds,
        other_window_probability=0.5,
        seed=0,
      )
    )
    assert batch['acoustic'].shape == (2, round(50 * seconds), 4)


def test_the_contract_names_the_networks(tokens):
  contract = json.loads((tokens[0] / 'contract.json').read_text())
  assert len(contract['networks']) == 5
  assert contract['coarse_levels'] == 2
  assert np.isfinite(contract['mulan_audio_mean']).all()


@pytest.mark.parametrize('form', ['codes', 'whole'])
def test_the_same_call_again_does_nothing(
  form, tokens, run_command, workdirs, music_folder, tmp_path
):
  """Stores of before, with the hash of a whole codec, included."""
  folder = tmp_path / 'store'
  shutil.copytree(tokens[0], folder)
  if form == 'whole':
    codec = networks.load(workdirs / 'soundstream', 'soundstream')
    contract = json.loads((folder / 'contract.json').read_text())
    contract['networks']['soundstream'] = codec.sha256
    text = TokenContract.from_json(json.dumps(contract)).to_json()
    (folder / 'contract.json').write_text(text)
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}
  lost = next(folder.glob('test/*.array_record'))
  data = lost.read_bytes()
  lost.unlink()
  done = run_command(
    'tokenize',
    f'--workdirs={workdirs}',
    f'--source=audio_folder:{music_folder}',
    f'--out={folder}',
    '--crop_seconds=2',
    '--coarse_levels=2',
    '--batch_size=2',
  )
  assert done.returncode == 0, done.stderr
  after = {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}
  changed = {p for p in before if before[p] != after[p]}
  assert changed == {lost}
  assert lost.read_bytes() == data, 'a shard is a function of its index'


@pytest.mark.parametrize(
  'arguments, word',
  [
    (['--workdirs=/nowhere'], '--source'),
    (['--workdirs=/nowhere', '--source=tape:/x', '--out=/tmp/x'], 'kind:DIR'),
    (['--crop_seconds=0'], '--workdirs'),
  ],
)
def test_bad_calls_are_refused_in_one_line(run_command, arguments, word):
  done = run_command('tokenize', *arguments)
  assert done.returncode == 2
  assert 'Traceback' not in done.stderr
  assert word in done.stderr.strip().splitlines()[-1]


def test_codebooks_of_a_network_of_another_width_are_refused(
  workdirs, write_stage, tmp_path
):
  (tmp_path / 'mulan_rvq').symlink_to(workdirs / 'mulan_rvq')
  write_stage(tmp_path / 'mulan', 'mulan', **{'model.embed_dim': 64})
  words = (
    'mulan_rvq was fitted to features of width 128, those of mulan have 64'
  )
  with pytest.raises(UsageError, match=words):
    networks.load_all(tmp_path, ('mulan', 'mulan_rvq'))
