"""The bundle command: eight workdirs in, one checked folder out."""

import json
import shutil

from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade import networks


def test_workdirs_become_a_bundle(bundle):
  folder, done = bundle
  assert done.returncode == 0, done.stderr
  opened = bundles.read(folder)
  assert 1 <= opened.settings.mulan_levels <= 12
  assert opened.settings.guidance == 1.0, 'mistake 38: on by default'
  assert opened.sha256 in done.stderr
  weights = (folder / 'soundstream' / 'weights.safetensors').read_bytes()
  assert b'discriminators' not in weights[:9999]


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
