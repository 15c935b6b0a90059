"""Soak: a training goes on with other processes or on another mesh.

From two processes to one, the semantic LM; from a 4x2 to a 2x4 mesh of eight
simulated devices, it and the two networks with codes. Through the command, at
reduced sizes, in float32, with dropout.
"""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from musiclm_jax import stages
from musiclm_jax.cascade import stage_data
from musiclm_jax.data.batches import token_batches
from musiclm_jax.data.loading import HostShard
from musiclm_jax.data.token_store import TokenStore
from musiclm_jax.training import checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / 'commands'))
from test_train import write_store

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
RESUMED, STEPS, BATCHES = 10, 60, 50
EVERY = {'log_every': 1, 'eval_every': 0, 'save_every': RESUMED}
NETWORKS = {
  'semantic': (
    'model.num_layers=2',
    'model.embed_dim=32',
    'model.head_dim=16',
    'model.mlp_dim=64',
    'model.dropout_rate=0.1',
    'data.batch_size=8',
    'data.crop_seconds=2.0',
  ),
  'soundstream': (
    'model.channels=4',
    'model.codebook_size=32',
    'loss.adversarial_start=0.0',
    'data.batch_size=8',
  ),
  'w2v_bert': ('data.batch_size=8', 'data.crop_seconds=2.0'),
}


def start(stage, folder, workdir, steps, *options, devices=1, **environment):
  """Starts a training on `devices` simulated devices."""
  source = (
    f'--tokens={folder / "tokens"}'
    if stage == 'semantic'
    else f'--config.data.source=prepared:{folder / "corpus"}'
  )
  plan = {'total_steps': steps, **EVERY}
  # Eight devices on few cores may wait long for each other.
  flags = (
    f'--xla_force_host_platform_device_count={devices} '
    '--xla_cpu_collective_call_terminate_timeout_seconds=900'
  )
  return subprocess.Popen(
    [
      *(sys.executable, '-m', 'musiclm_jax.train'),
      f'--config=configs/{stage}.py:tiny',
      source,
      f'--workdir={workdir}',
      *(f'--config.schedule.{key}={value}' for key, value in plan.items()),
      *(f'--config.{option}' for option in (*NETWORKS[stage], *options)),
    ],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': flags} | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(*processes):
  for process in processes:
    out, _ = process.communicate()
    assert process.returncode == 0, out[-3000:]


def cut_back(whole, moved):
  """Copies a run as it was after its first checkpoint."""
  shutil.copytree(whole, moved)
  for step in (moved / 'checkpoints').iterdir():
    if step.name != str(RESUMED):
      shutil.rmtree(step)


def largest_difference(left, right):
  """Of loss and gradient norms, relative, in the three steps after."""
  rows = [
    {
      row['step']: row
      for row in map(json.loads, (p / 'metrics.jsonl').open())
      if row['step'] > RESUMED
    }
    for p in (left, right)
  ]
  assert rows[0].keys() == rows[1].keys()
  steps = range(RESUMED + 1, RESUMED + 4)
  names = [
    n for n in rows[0][steps[0]] if n == 'loss' or n.startswith('grad_norm')
  ]
  assert len(names) >= 2
  pairs = [
    (rows[0][step][name], rows[1][step][name])
    for step, name in itertools.product(steps, names)
  ]
  return max(abs(a - b) / max(abs(a), 1e-30) for a, b in pairs)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('layouts')
  write_store(folder / 'tokens')
  made = subprocess.run(
    [
      *(sys.executable, '-m', 'musiclm_jax.prepare', '--pieces=12', '--seed=0'),
      *('--source=rendered_music', f'--out={folder / "corpus"}'),
    ],
    cwd=ROOT,
    check=False,
  )
  assert made.returncode == 0
  return folder


def test_from_two_processes_to_one(folder):
  two, one = folder / 'two', folder / 'one'
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  keep = f'schedule.keep_every={RESUMED}'
  finish(
    *(
      start(
        *('semantic', folder, two, STEPS, keep),
        JAX_COORDINATOR_ADDRESS=f'localhost:{port}',
        JAX_NUM_PROCESSES='2',
        JAX_PROCESS_ID=str(index),
      )
      for index in range(2)
    )
  )
  cut_back(two, one)
  finish(start('semantic', folder, one, STEPS, keep))
  difference = largest_difference(two, one)
  print(f'2 processes to 1: largest relative difference {difference:.1e}')
  assert difference < 1e-5


def test_two_processes_and_one_read_the_same_batches(folder):
  def read(*shard):
    source = TokenStore(folder / 'tokens', 'train')
    stream = token_batches(
      source,
      seed=0,
      start_step=RESUMED,
      shard=HostShard(*shard),
      batch_size=8,
      crop_seconds=2.0,
      other_window_probability=0.5,
    )
    return itertools.islice(stream, BATCHES)

  for first, second, whole in zip(
    read(0, 2), read(1, 2), read(0, 1), strict=True
  ):
    for name, rows in whole.items():
      joined = np.concatenate([first[name], second[name]])
      np.testing.assert_array_equal(joined, rows)


@pytest.mark.parametrize('stage', NETWORKS)
def test_from_a_4x2_to_a_2x4_mesh(stage, folder):
  whole, moved = (folder / f'{stage}_{name}' for name in ('4x2', '2x4'))
  steps = RESUMED + 3
  before, after = (
    (f'mesh.fsdp={fsdp}', f'mesh.tensor={tensor}')
    for fsdp, tensor in ((4, 2), (2, 4))
  )
  finish(start(stage, folder, whole, steps, *before, devices=8))
  cut_back(whole, moved)
  finish(start(stage, folder, moved, steps, *after, devices=8))
  difference = largest_difference(whole, moved)
  print(f'{stage}, 4x2 to 2x4: largest relative difference {difference:.1e}')
  assert difference < 1e-5
  if stage != 'semantic':
    equal = equal_codes(whole, moved, folder)
    print(f'{stage}, 4x2 to 2x4: {equal:.3%} of codes equal')
    assert equal >= 0.999


def equal_codes(left, right, folder):
  """Share of codes that two trained networks agree about, on held-out audio."""
  reads = [checkpoint.read(path) for path in (left, right)]
  assert reads[0].step == reads[1].step == RESUMED + 3
  config = reads[0].config
  task = stages.build(config)
  inputs = stage_data.Inputs(dict(config['data']), 0, left)
  held_out = stage_data.open_data(config['stage'], inputs).evaluation()
  waveform = next(iter(held_out))['waveform']

  @jax.jit
  def encode(params, collections):
    if config['stage'] == 'soundstream':
      return task.codec.encode(params, collections, waveform)
    own = collections['w2v_bert']
    mels = task.semantic.inputs(collections, waveform)
    mask = np.zeros((len(mels), mels.shape[1] // 4), bool)
    variables = {
      'params': params['w2v_bert'],
      'batch_stats': own.get('batch_stats', {}),
    }
    output = task.semantic.model.apply(
      variables, mels, mask, own['latents'], jax.random.key(0)
    )
    return output.quantized.codes

  one, other = (encode(read.params, read.collections) for read in reads)
  assert one.size >= 200
  return float(np.mean(np.asarray(one) == np.asarray(other)))
