"""The bundle command: eight workdirs in, one checked folder out."""

import dataclasses
import json
import shutil
import types

import jax
import jax.numpy as jnp
import pytest

from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade import bundling, networks, tokenizer
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import export


def test_workdirs_become_a_bundle(bundle):
  folder, done = bundle
  assert done.returncode == 0, done.stderr
  opened = bundles.read(folder)
  assert 1 <= opened.settings.mulan_levels <= 12
  assert opened.settings.guidance_coarse == 1.0, 'mistake 38: on by default'
  assert opened.sha256 in done.stderr
  weights = (folder / 'soundstream' / 'weights.safetensors').read_bytes()
  assert b'discriminators' not in weights[:9999]
  assert (folder / bundles.CAPTION_WORDS).read_text().startswith('a 3\n')


def test_a_network_is_the_same_from_workdir_and_bundle(bundle, workdirs):
  for stage in ('soundstream', 'mulan_rvq', 'coarse'):
    here = networks.load(workdirs / stage, stage)
    there = networks.load(bundle[0], stage)
    assert here.sha256 == there.sha256
    assert here.model == there.model


def test_a_language_model_of_other_tokens_is_refused(
  bundle, workdirs, run_command, write_stage, tmp_path
):
  assert bundle[1].returncode == 0
  shutil.copytree(workdirs, tmp_path / 'w')
  contract = json.loads((workdirs / 'coarse' / 'contract.json').read_text())
  contract['networks']['kmeans'] = '0' * 64
  shutil.rmtree(tmp_path / 'w' / 'coarse')
  write_stage(tmp_path / 'w' / 'coarse', 'coarse', json.dumps(contract))
  done = run_command(
    'bundle', f'--workdirs={tmp_path}/w', f'--out={tmp_path}/bundle'
  )
  assert done.returncode == 2
  assert 'networks.kmeans' in done.stderr.strip().splitlines()[-1]
  assert not (tmp_path / 'bundle').exists()


@pytest.mark.parametrize('source', ['rounded', 'exported'])
def test_a_bundle_is_rounded_as_the_networks_that_made_the_tokens(
  source, bundle, workdirs, write_stage, tmp_path
):
  assert bundle[1].returncode == 0
  folder, out = tmp_path / 'w', tmp_path / 'b'
  shutil.copytree(workdirs, folder)
  kind = 'bfloat16'
  contract = tokenizer.load(workdirs, dtype=kind).contract(2)
  whole = tokenizer.load(workdirs).contract(2)
  stages = bundles.TOKENIZERS
  assert all(contract.networks[s] != whole.networks[s] for s in stages)
  retrain(folder, contract, write_stage)
  if source == 'exported':
    for stage in stages:
      export_workdir(workdirs / stage, folder / stage)
    assert tokenizer.load(folder).contract(2) == contract
  made = bundling.bundle_workdirs(folder, out)
  assert tokenizer.load(out).contract(2) == contract == made.contract
  assert made.dtype == kind and bundles.read(out).dtype == kind
  words = (out / bundles.CAPTION_WORDS).read_text()
  assert words == (bundle[0] / bundles.CAPTION_WORDS).read_text()
  sizes = [
    sum(file.stat().st_size for file in path.rglob('*.safetensors'))
    for path in (out, bundle[0])
  ]
  assert sizes[0] < 0.7 * sizes[1]
  with pytest.raises(UsageError, match='--dtype=int8: the tokens that'):
    bundling.bundle_workdirs(folder, tmp_path / 'c', dtype='int8')
  with pytest.raises(UsageError, match='by networks in float32'):
    bundling.bundle_workdirs(workdirs, tmp_path / 'c', dtype=kind)


@pytest.mark.parametrize('form', ['codes', 'whole'])
def test_a_codec_may_change_in_what_makes_no_codes(
  form, bundle, workdirs, write_stage, tmp_path
):
  """Its decoder learns on; `whole` is how contracts of before were written."""
  assert bundle[1].returncode == 0
  folder, out = tmp_path / 'w', tmp_path / 'b'
  shutil.copytree(workdirs, folder)
  contract = tokenizer.load(workdirs, dtype='bfloat16').contract(2)
  codec = networks.read(workdirs / 'soundstream', 'soundstream')
  whole = codec.rounded('bfloat16').sha256()
  if form == 'whole':
    of = {**contract.networks, 'soundstream': whole}
    contract = dataclasses.replace(contract, networks=of)
  retrain(folder, contract, write_stage)
  assert bundling.bundle_workdirs(folder, out).contract == contract
  codec = folder / 'soundstream'
  export_workdir(workdirs / 'soundstream', codec, changed='decoder')
  if form == 'codes':
    assert bundling.bundle_workdirs(folder, out).contract == contract
    assert networks.load(out, 'soundstream').sha256 != whole
    export_workdir(workdirs / 'soundstream', codec, changed='encoder')
  with pytest.raises(UsageError, match=r'networks\.soundstream: the networks'):
    bundling.bundle_workdirs(folder, out)


def retrain(folder, contract, write_stage):
  """Replaces the language models by some that learned tokens of a contract."""
  for stage in bundles.LANGUAGE_MODELS:
    shutil.rmtree(folder / stage)
    write_stage(folder / stage, stage, contract.to_json())


def export_workdir(workdir, out, changed=None):
  """Replaces the copy of a workdir by an export of its checkpoint."""
  read = networks.read_workdir(workdir)
  trees = jax.tree.map(jnp.asarray, (read.params, read.collections))
  if changed:
    part = trees[0]['codec'][changed]
    trees[0]['codec'][changed] = jax.tree.map(lambda array: 2 * array, part)
  state = types.SimpleNamespace(
    step=1, params=trees[0], ema_params={}, collections=trees[1]
  )
  files = {file.name: file.read_text() for file in workdir.glob('*.txt')}
  shutil.rmtree(out, ignore_errors=True)
  export.write(out, state, config=read.config, files=files, part_mb=0.02)


def test_guidance_below_0_is_refused(run_command, tmp_path):
  done = run_command(
    'bundle', f'--workdirs={tmp_path}', f'--out={tmp_path}/b', '--guidance=-1'
  )
  assert done.returncode == 2
  assert '--guidance=-1.0' in done.stderr.strip().splitlines()[-1]


def test_missing_workdirs_are_listed(run_command, tmp_path):
  (tmp_path / 'mulan').mkdir()
  done = run_command('bundle', f'--workdirs={tmp_path}', f'--out={tmp_path}/b')
  assert done.returncode == 2
  last = done.stderr.strip().splitlines()[-1]
  assert 'soundstream, w2v_bert, kmeans, mulan_rvq, semantic' in last
