"""The melody through all commands: workdirs, tokens, LMs, bundle, music."""

import json
import os

import jax
import numpy as np
import pytest
import soundfile
from flax import linen as nn

from musiclm_jax import stages
from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade import provenance, stage_data
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.token_store import TokenStore

WITH_MELODY = {
  'layout.melody': True,
  'layout.melody_levels': 3,
  'layout.melody_codebook_size': 16,
  'layout.melody_window_seconds': 0.24,
  'layout.melody_hop_seconds': 0.16,
}


@pytest.fixture(scope='module')
def melody_workdirs(workdirs, write_stage, tmp_path_factory):
  """The workdirs of all seven networks that make tokens."""
  folder = tmp_path_factory.mktemp('melody')
  for stage in bundles.TOKENIZERS:
    os.symlink(workdirs / stage, folder / stage)
  for stage in bundles.OPTIONAL:
    write_stage(folder / stage, stage)
  return folder


@pytest.fixture(scope='module')
def melody_tokens(melody_workdirs, music_folder, run_command):
  done = run_command(
    'tokenize',
    f'--workdirs={melody_workdirs}',
    f'--source=audio_folder:{music_folder}',
    f'--out={melody_workdirs}/tokens',
    '--crop_seconds=2',
    '--coarse_levels=2',
    '--batch_size=2',
    '--splits=train,validation',
  )
  assert done.returncode == 0, done.stderr
  return melody_workdirs / 'tokens'


@pytest.fixture(scope='module')
def melody_bundle(melody_tokens, melody_workdirs, write_stage, run_command):
  contract = (melody_tokens / 'contract.json').read_text()
  for stage in bundles.LANGUAGE_MODELS:
    melody = {} if stage == 'fine' else WITH_MELODY
    write_stage(melody_workdirs / stage, stage, contract, **melody)
  done = run_command(
    'bundle',
    f'--workdirs={melody_workdirs}',
    f'--out={melody_workdirs}/bundle',
    f'--tokens={melody_tokens}',
  )
  assert done.returncode == 0, done.stderr
  return melody_workdirs / 'bundle'


def test_the_store_holds_the_melody_of_each_crop(melody_tokens):
  store = TokenStore(melody_tokens, 'train')
  spec = store.contract.streams['melody']
  assert (spec.num_levels, spec.codebook_size) == (3, 16)
  assert set(bundles.OPTIONAL) < store.contract.networks.keys()
  melody = store.record(0).melody
  # Windows of 0.24 s every 0.16 s of a crop of 2 s.
  assert melody.shape == (12, 3)
  assert melody.min() >= 0 and melody.max() < 16


def test_a_few_steps_on_the_store_learn(
  melody_tokens, command_config, tmp_path
):
  config = command_config('semantic', **WITH_MELODY, **{'data.batch_size': 2})
  task = stages.build(config)
  stage_data.read_contract(str(melody_tokens), task.lm.layout)
  data = stage_data.open_data(
    'semantic',
    stage_data.Inputs(
      config.data.to_dict(),
      0,
      tmp_path,
      tokens=str(melody_tokens),
      layout=task.lm.layout,
    ),
  )
  batch = next(data.train(0))
  assert batch['melody'].shape == (2, 12, 3)
  params, _ = nn.unbox(jax.jit(task.init)(jax.random.key(0), batch))
  slope = jax.jit(
    jax.value_and_grad(
      lambda p: task.losses()['lm'](p, {}, batch, jax.random.key(0), 0)[0]
    )
  )
  losses = []
  for _ in range(3):
    loss, gradient = slope(params)
    losses.append(float(loss))
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
  assert losses[2] < losses[1] < losses[0]
  layout = task.lm.layout
  rows = gradient['lm']['embedding'][layout.offset(1) : layout.offset(2)]
  assert np.abs(rows).max() > 0, 'melody tokens learn'


def test_a_store_without_or_with_other_melodies_is_refused(
  melody_tokens, tokens, command_config
):
  for store, changes, words in (
    (tokens[0], {}, 'has no melody tokens: train melody and melody_rvq'),
    (melody_tokens, {'layout.melody_levels': 2}, 'num_levels is 3 .* and 2'),
    (
      melody_tokens,
      {'layout.melody_window_seconds': 0.28},
      r'window_seconds is 0\.24 .* and 0\.28',
    ),
  ):
    task = stages.build(command_config('semantic', **WITH_MELODY | changes))
    with pytest.raises(UsageError, match=words):
      stage_data.read_contract(str(store), task.lm.layout)


def test_the_bundle_carries_the_networks_of_the_melody(melody_bundle, bundle):
  opened = bundles.read(melody_bundle)
  assert set(bundles.OPTIONAL) < set(opened.stages)
  assert (
    '| melody | 16 | 3 | 6.25 |' in (melody_bundle / 'README.md').read_text()
  )
  plain = bundles.read(bundle[0])
  assert plain.stages == bundles.STAGES
  with pytest.raises(UsageError, match='has no melody network'):
    plain.weights('melody')


def test_music_is_made_to_a_hummed_melody(melody_bundle, run_command, tmp_path):
  time = np.arange(24_000) / 24_000
  soundfile.write(tmp_path / 'hum.wav', 0.3 * np.sin(900 * time**2), 24_000)
  done = run_command(
    'generate',
    f'--bundle={melody_bundle}',
    '--text=slow piano',
    '--seconds=0.5',
    f'--out={tmp_path}/x.wav',
    f'--melody={tmp_path}/hum.wav',
  )
  assert done.returncode == 0, done.stderr
  assert 'melody of 1.0 s' in done.stderr
  assert 'followed by semantic and coarse' in done.stderr
  about = provenance.read_provenance(tmp_path / 'x.wav')
  assert about['melody'] == 'hum.wav' and len(about['melody_sha256']) == 64
  waveform, _ = soundfile.read(tmp_path / 'x.wav')
  assert waveform.shape == (12_000,)


def test_a_bundle_without_melody_networks_refuses_one(
  bundle, run_command, tmp_path
):
  done = run_command(
    'generate',
    f'--bundle={bundle[0]}',
    '--text=slow piano',
    '--seconds=0.5',
    f'--out={tmp_path}/x.wav',
    '--melody=hum.wav',
  )
  assert done.returncode == 2
  last = done.stderr.strip().splitlines()[-1]
  assert 'has no melody networks: leave --melody out' in last
  assert 'melody' not in json.loads((bundle[0] / 'contract.json').read_text())
