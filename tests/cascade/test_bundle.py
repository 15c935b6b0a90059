"""Bundles: whole or refused, with the name of what is wrong."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from musiclm_jax.cascade import bundle
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.errors import UsageError


def write(out, tiny, made=None, **more):
  return bundle.write(
    out,
    made or tiny.stages(tiny.contract),
    tiny.contract,
    '[PAD]\npiano\n',
    SamplingConfig(mulan_levels=3, guidance_coarse=2.0),
    {'jax': '0'},
    **more,
  )


@pytest.fixture
def written(tiny, tmp_path):
  return write(tmp_path / 'bundle', tiny)


def test_what_comes_out_is_what_went_in(tiny, written):
  opened = bundle.read(written.path)
  assert opened == written
  assert opened.settings == SamplingConfig(3, 1.0, 0.95, 0.4, 1.0, 2.0)
  assert opened.contract == tiny.contract
  assert (opened.path / bundle.VOCABULARY).read_text() == '[PAD]\npiano\n'
  for stage, weights in tiny.stages(tiny.contract).items():
    read = opened.weights(stage)
    assert read.config == weights.config
    assert read.contract_json == weights.contract_json
    assert read.sha256() == weights.sha256()
    assert read.arrays().keys() == weights.arrays().keys()
    for name, array in read.arrays().items():
      np.testing.assert_array_equal(array, weights.arrays()[name])
      assert array.dtype == weights.arrays()[name].dtype
  assert opened.weights('kmeans').params == {'kmeans': {}}


def test_the_words_of_captions_are_checked_where_there_are_some(
  tiny, written, tmp_path
):
  assert not (written.path / bundle.CAPTION_WORDS).exists()
  with_words = write(tmp_path / 'other', tiny, caption_words='piano 2\n')
  path = with_words.path / bundle.CAPTION_WORDS
  assert path.read_text() == 'piano 2\n'
  path.write_text('zither 2\n')
  with pytest.raises(UsageError, match=r'caption_words\.txt is damaged'):
    bundle.read(with_words.path)


def test_discriminators_stay_at_home(written):
  assert 'discriminators' not in written.weights('soundstream').params


def test_the_card_tells_what_is_inside(written):
  card = (written.path / 'README.md').read_text()
  assert '| fine |' in card and '24000 Hz' in card


def test_a_missing_bundle_is_named(tmp_path):
  with pytest.raises(UsageError, match=r"nowhere' is no bundle"):
    bundle.read(tmp_path / 'nowhere')


@pytest.mark.parametrize(
  'name',
  [
    'coarse/weights.safetensors',
    'mulan/vocab.txt',
    'contract.json',
    'fine/contract.json',
    'README.md',
  ],
)
def test_damaged_and_missing_files_are_named(written, name):
  path = written.path / name
  data = path.read_bytes()
  path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
  with pytest.raises(UsageError, match=f'{name} is damaged'):
    bundle.read(written.path)
  path.unlink()
  with pytest.raises(UsageError, match=f'{name} is missing'):
    bundle.read(written.path)


@pytest.mark.parametrize('text', ['', '{}', '{"schema_version": 1}', '[]'])
def test_a_damaged_manifest_is_refused(written, text):
  (written.path / 'bundle.json').write_text(text)
  with pytest.raises(UsageError, match=r'bundle\.json'):
    bundle.read(written.path)


def test_a_bundle_of_the_first_version_has_no_limits_of_codes(written):
  manifest = json.loads((written.path / 'bundle.json').read_text())
  manifest['schema_version'] = 1
  names = [n for n in manifest['settings'] if n.startswith(('top_k', 'top_p'))]
  for name in names:
    del manifest['settings'][name]
  (written.path / 'bundle.json').write_text(json.dumps(manifest))
  opened = bundle.read(written.path)
  assert opened.settings == written.settings and len(names) == 6
  assert opened.settings.top_k_semantic is None


def test_a_bundle_of_before_has_one_guidance_for_all_stages(written):
  manifest = json.loads((written.path / 'bundle.json').read_text())
  manifest['schema_version'] = 2
  for stage in bundle.LANGUAGE_MODELS:
    del manifest['settings'][f'guidance_{stage}']
  manifest['settings']['guidance'] = 3.0
  (written.path / 'bundle.json').write_text(json.dumps(manifest))
  settings = bundle.read(written.path).settings
  assert settings == written.settings.changed({'guidance': 3.0})
  assert (settings.guidance_semantic, settings.guidance_fine) == (3.0, 3.0)
  own = settings.changed({'guidance': 2.0, 'guidance_fine': 1.0})
  assert (own.guidance_coarse, own.guidance_fine) == (2.0, 1.0)


@pytest.mark.parametrize('dtype', ['bfloat16', 'int8'])
def test_a_rounded_bundle_holds_the_rounded_networks(tiny, tmp_path, dtype):
  made = tiny.stages(tiny.contract)
  rng = np.random.default_rng(0)
  large = {'net': {'kernel': rng.normal(size=(64, 80)).astype(np.float32)}}
  made['mulan'] = dataclasses.replace(made['mulan'], params=large)
  whole = write(tmp_path / 'whole', tiny, made)
  rounded = {stage: weights.rounded(dtype) for stage, weights in made.items()}
  written = write(tmp_path / dtype, tiny, rounded, dtype=dtype)
  for stage, weights in rounded.items():
    read = bundle.read(written.path).weights(stage)
    assert read.sha256() == weights.sha256() != made[stage].sha256() or (
      stage == 'kmeans'
    )
    assert read.rounded(dtype).sha256() == read.sha256(), 'rounded once'
    assert read.config == weights.config
    assert read.params.keys() == weights.inference()['params'].keys()
  before, after = (
    opened.weights('mulan').params['net']['kernel']
    for opened in (whole, written)
  )
  assert after.dtype == np.float32
  step = np.abs(before).max() * (2**-8 if dtype == 'bfloat16' else 1 / 254)
  assert 0 < np.abs(after - before).max() <= 1.01 * step
  sizes = [
    (folder / 'mulan' / 'weights.safetensors').stat().st_size
    for folder in (whole.path, written.path)
  ]
  assert sizes[1] < sizes[0] * (0.55 if dtype == 'bfloat16' else 0.3)


def test_another_schema_is_refused(written):
  manifest = json.loads((written.path / 'bundle.json').read_text())
  manifest['schema_version'] = 99
  (written.path / 'bundle.json').write_text(json.dumps(manifest))
  with pytest.raises(UsageError, match='schema_version 99'):
    bundle.read(written.path)


def test_a_language_model_of_another_contract_is_refused(tiny, tmp_path):
  """Mistakes 14 and 36: tokens mean what the networks of the bundle say."""
  other = dataclasses.replace(
    tiny.contract, networks={'soundstream': 'a', 'mulan': 'drifted'}
  )
  made = tiny.stages(tiny.contract)
  made['coarse'] = dataclasses.replace(
    made['coarse'], contract_json=other.to_json()
  )
  with pytest.raises(UsageError, match=r'networks\.mulan.*coarse'):
    write(tmp_path / 'bundle', tiny, made)
  assert list(tmp_path.iterdir()) == [], 'nothing half-written'


def test_an_untrained_language_model_is_refused(tiny, tmp_path):
  made = tiny.stages(tiny.contract)
  made['fine'] = dataclasses.replace(made['fine'], contract_json=None)
  with pytest.raises(UsageError, match='fine stage carries no token contract'):
    write(tmp_path / 'bundle', tiny, made)


def test_missing_stages_are_listed(tiny, tmp_path):
  made = tiny.stages(tiny.contract)
  del made['mulan'], made['fine']
  with pytest.raises(UsageError, match='mulan, fine'):
    write(tmp_path / 'bundle', tiny, made)


def test_a_failed_write_leaves_the_old_bundle(tiny, written, monkeypatch):
  before = written.sha256

  def full(*args):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr('musiclm_jax.cascade.bundle_card.text', full)
  with pytest.raises(OSError, match='No space left'):
    write(written.path, tiny)
  assert bundle.read(written.path).sha256 == before
  assert [p.name for p in written.path.parent.iterdir()] == ['bundle']


def test_others_can_read_a_bundle(tiny, tmp_path):
  """As the umask says; the library would let nobody else read the weights."""
  before = os.umask(0o022)
  try:
    path = write(tmp_path / 'bundle', tiny).path
  finally:
    os.umask(before)
  for file in (path, *path.rglob('*')):
    assert file.stat().st_mode & 0o777 == (0o755 if file.is_dir() else 0o644)


def test_a_bundle_with_a_users_files_is_refused_by_name(tiny, written):
  mine = written.path / 'mulan' / 'notes.txt'
  mine.write_text('mine')
  for overwrite in (False, True):
    with pytest.raises(UsageError, match=r'mulan/notes\.txt'):
      bundle.check_out(written.path, overwrite)
  mine.unlink()
  (written.path / 'README.md').write_text('mine')
  with pytest.raises(UsageError, match=r'README\.md.*--overwrite'):
    bundle.check_out(written.path)
  bundle.check_out(written.path, overwrite=True)
  (written.path / 'bundle.json').write_text('{"name": "of another tool"}')
  with pytest.raises(UsageError, match='no bundle'):
    bundle.check_out(written.path, overwrite=True)
  (written.path.parent / 'file').touch()
  with pytest.raises(UsageError, match='is a file'):
    bundle.check_out(written.path.parent / 'file', overwrite=True)


@pytest.mark.parametrize('name', ['b[1]\\*?\n', os.fsdecode(b'caf\xe9'), '-b'])
def test_a_bundle_of_any_name_is_written_where_it_was_told(
  name, tiny, tmp_path
):
  written = write(tmp_path / name, tiny)
  assert bundle.read(written.path) == written
  assert written.weights('coarse').params
  assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_bundle_replaces_a_bundle_but_nothing_else(tiny, written):
  assert write(written.path, tiny).sha256 == written.sha256
  other = written.path.parent / 'thesis'
  other.mkdir()
  (other / 'chapter.txt').write_text('1')
  with pytest.raises(UsageError, match='choose another --out'):
    write(other, tiny)
  assert (other / 'chapter.txt').exists()


def test_a_bundle_can_be_moved(written, tmp_path):
  moved = tmp_path / 'elsewhere' / 'b'
  shutil.copytree(written.path, moved)
  assert bundle.read(moved).sha256 == written.sha256


def test_the_hash_sees_every_bit_name_and_shape(tiny):
  weights = tiny.stages(tiny.contract)['mulan']
  seen = {weights.sha256()}
  kernel = weights.params['net']['layer']['kernel']
  changed = kernel.copy()
  changed[0, 0] = np.nextafter(changed[0, 0], 1)
  for params in (
    {'net': {'layer': {'kernel': changed}}},
    {'net': {'layer': {'kernel': kernel.T}}},
    {'net': {'layer': {'weight': kernel}}},
  ):
    seen.add(dataclasses.replace(weights, params=params).sha256())
  assert len(seen) == 4
  same = dataclasses.replace(
    weights, params={'net': {'layer': {'kernel': kernel.copy()}}}
  )
  assert same.sha256() in seen
