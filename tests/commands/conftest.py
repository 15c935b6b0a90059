"""A whole cascade of minute, untrained networks, as eight workdirs leave it."""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
import soundfile
from absl import app, flags
from flax import linen as nn

from musiclm_jax import cli, stages
from musiclm_jax.data.caption_words import CaptionWords
from musiclm_jax.data.text import WordPiece
from musiclm_jax.training import checkpoint, workdir
from musiclm_jax.training.schedule import Schedule
from musiclm_jax.training.state import TrainState

ROOT = Path(__file__).parents[2]
WORDS = ('slow piano', 'fast techno with a synth lead', 'a waltz on a harp')
LAYOUT = {
  'layout.mulan_codebook_size': 16,
  'layout.semantic_codebook_size': 16,
  'layout.acoustic_levels': 4,
  'layout.acoustic_codebook_size': 16,
  'layout.coarse_levels': 2,
  'model.num_layers': 1,
  'model.embed_dim': 16,
  'model.num_heads': 2,
  'model.head_dim': 8,
  'model.mlp_dim': 16,
}
CROPS = {'semantic': 2.0, 'coarse': 0.4, 'fine': 0.24}
# What the sound was pinned with.
DISTANCES = {'semantic': 72, 'coarse': 552, 'fine': 972}
MINUTE = {
  'soundstream': {
    'model.channels': 2,
    'model.latent_dim': 8,
    'model.num_quantizers': 4,
    'model.codebook_size': 16,
  },
  'w2v_bert': {
    'model.embed_dim': 8,
    'model.num_heads': 2,
    'model.mlp_dim': 8,
    'model.contrastive_blocks': 1,
    'model.masked_blocks': 2,
    'model.codebook_size': 8,
    'model.code_dim': 8,
    'model.conv_channels': (4, 2),
  },
  'kmeans': {'model.codebook_size': 16},
  'mulan': {
    'model.audio.width': 1,
    'model.text.vocab_size': 64,
    'model.text.embed_dim': 8,
    'model.text.mlp_dim': 8,
    'model.text.num_layers': 1,
    'loss.window_seconds': 2.0,
  },
  'mulan_rvq': {'model.codebook_size': 16},
  'melody': {
    'model.segments': 3,
    'model.num_layers': 1,
    'model.embed_dim': 8,
    'model.num_heads': 1,
    'model.head_dim': 8,
    'model.mlp_dim': 8,
    'model.output_dim': 128,  # as MuLan's, for one batch of embeddings
    'loss.window_seconds': 0.24,
    'loss.window_hop_seconds': 0.16,
  },
  'melody_rvq': {'model.codebook_size': 16, 'model.num_levels': 3},
  'parallel': LAYOUT | {'data.crop_seconds': 1.0},
  **{
    stage: LAYOUT
    | {
      'data.crop_seconds': seconds,
      'model.relative_max_distance': DISTANCES[stage],
    }
    for stage, seconds in CROPS.items()
  },
}
TOKENIZERS = ('soundstream', 'w2v_bert', 'kmeans', 'mulan', 'mulan_rvq')


def config_of(stage, **changes):
  path = ROOT / 'configs' / f'{stage}.py'
  config = runpy.run_path(str(path))['get_config']('tiny')
  config.update_from_flattened_dict(MINUTE[stage] | changes)
  return config


def batch_of(stage, config):
  rows = 80 if stage in ('mulan_rvq', 'melody_rvq') else 2
  takes = (2, 5760) if stage == 'melody' else (48000,)
  frames = round(CROPS.get(stage, 1.0) * 25)
  return {
    'waveform': np.zeros((rows, *takes), np.float32),
    'text_ids': np.zeros(
      (rows, 1, config.data.get('text_length', 8)), np.int32
    ),
    'group': np.arange(rows, dtype=np.int32),
    'features': np.zeros((rows, 50, 8), np.float32),
    'audio': np.zeros((rows, 128), np.float32),
    'text': np.zeros((rows, 128), np.float32),
    'mulan': np.zeros((rows, 12), np.int32),
    'semantic': np.zeros((rows, frames), np.int32),
    'acoustic': np.zeros((rows, 2 * frames, 4), np.int32),
  }


def drawn(shapes, seed):
  """Values of given shapes, without compiling a network's own init."""
  rng = np.random.default_rng(seed)

  def draw(leaf):
    if leaf.dtype == bool:
      return np.ones(leaf.shape, bool)
    if not np.issubdtype(leaf.dtype, np.floating):
      return np.zeros(leaf.shape, leaf.dtype)
    fan_in = max(np.prod(leaf.shape[:-1]), 1)
    return rng.normal(0.1, fan_in**-0.5, leaf.shape).astype(leaf.dtype)

  return jax.tree.map(draw, nn.unbox(shapes))


def write_workdir(folder, stage, contract_json=None, **changes):
  """Leaves what a training of no steps would leave."""
  config = config_of(stage, **changes)
  task = stages.build(config)
  batch = batch_of(stage, config)
  if config.get('layout', {}).get('melody'):
    melody = task.lm.layout.melody
    batch['melody'] = np.zeros((2, melody.num_frames, melody.num_levels), int)
  shapes = jax.eval_shape(task.init, jax.random.key(0), batch)
  params, collections = drawn(shapes, seed=len(stage))
  if stage == 'soundstream':  # within full scale, or all sound is alike
    last = params['codec']['decoder']['CausalConv_1']
    for name, values in last.items():
      last[name] = values * np.float32(1e-10)
  # Variances and counts must be positive for the networks to give numbers.
  collections = jax.tree.map(
    lambda a: np.abs(a) + a.dtype.type(0.1) if a.dtype.kind == 'f' else a,
    collections,
  )
  folder.mkdir(parents=True)
  workdir.describe(folder, config.to_dict(), contract_json)
  zero = np.zeros((), np.int32)
  state = TrainState(
    step=zero,
    params=params,
    ema_params={},
    opt_state={},
    collections=collections,
    rng=np.zeros(2, np.uint32),
    refused=zero,
    refused_in_a_row=zero,
    rolled_back=zero,
  )
  config = config.to_dict()
  store = checkpoint.Checkpoints(
    folder, config, contract_json, Schedule(**config['schedule'])
  )
  store.save(jax.tree.map(jax.numpy.asarray, state), {})
  store.wait()
  store.close()


def command(name, *arguments):
  """Runs a command as a user does."""
  return subprocess.run(
    [sys.executable, '-m', f'musiclm_jax.{name}', *arguments],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )


@pytest.fixture(scope='session')
def run_command():
  """A function (command, *arguments) -> finished process."""
  return command


@pytest.fixture(scope='session')
def music_folder(tmp_path_factory):
  """Six short tones with captions, and a broken file among them."""
  folder = tmp_path_factory.mktemp('music')
  for k in range(6):
    n = np.arange(round(24000 * 4.5))
    tone = 0.3 * np.sin(n * (0.02 + 0.01 * k)) * np.sin(n / 9000) ** 2
    soundfile.write(folder / f'{k}.wav', tone, 24000)
  (folder / 'broken.mp3').write_bytes(b'')
  lines = [f'{k}.wav,{WORDS[k % 3]}' for k in range(6)]
  (folder / 'captions.csv').write_text('path,caption\n' + '\n'.join(lines))
  return folder


@pytest.fixture(scope='session')
def workdirs(tmp_path_factory):
  """The workdirs of the five networks that make tokens."""
  folder = tmp_path_factory.mktemp('workdirs')
  for stage in TOKENIZERS:
    write_workdir(folder / stage, stage)
  WordPiece.train(WORDS, 60).save(folder / 'mulan' / 'vocab.txt')
  counted = CaptionWords.of(WORDS).to_text()
  (folder / 'mulan' / 'caption_words.txt').write_text(counted)
  return folder


@pytest.fixture(scope='session')
def tokens(tmp_path_factory, workdirs, music_folder):
  """A token store made by the command; (folder, finished process)."""
  folder = tmp_path_factory.mktemp('tokens') / 'store'
  done = command(
    'tokenize',
    f'--workdirs={workdirs}',
    f'--source=audio_folder:{music_folder}',
    f'--out={folder}',
    '--crop_seconds=2',
    '--coarse_levels=2',
    '--batch_size=2',
  )
  return folder, done


@pytest.fixture(scope='session')
def bundle(tmp_path_factory, workdirs, tokens):
  """A bundle made by the command; (folder, finished process)."""
  contract = (tokens[0] / 'contract.json').read_text()
  for stage in CROPS:
    write_workdir(workdirs / stage, stage, contract)
  folder = tmp_path_factory.mktemp('bundles') / 'bundle'
  done = command(
    'bundle',
    f'--workdirs={workdirs}',
    f'--out={folder}',
    f'--tokens={tokens[0]}',
  )
  return folder, done


@pytest.fixture(scope='session')
def write_stage():
  """A function (folder, stage, contract, **changes) that leaves a workdir."""
  return write_workdir


@pytest.fixture(scope='session')
def command_flags():
  """A function (stage) -> the flags of its minute config."""

  def flags_of(stage, **changes):
    changed = (MINUTE[stage] | changes).items()
    return (
      f'--config={ROOT}/configs/{stage}.py:tiny',
      *(f'--config.{key}={value}' for key, value in changed),
    )

  return flags_of


@pytest.fixture(scope='session')
def command_config():
  """A function (stage, **changes) -> its minute config."""
  return config_of


@pytest.fixture(scope='session')
def minute_game():
  """Makes the minute task of a stage, and a batch of it."""

  def game(stage, **changes):
    config = config_of(stage, **changes)
    return stages.build(config), batch_of(stage, config)

  return game


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
  """A function (command, *flags) -> exit code, what was printed, errors."""
  app.define_help_flags()
  own = set()
  for module, name in (
    (sys, 'unraisablehook'),
    (sys.modules['threading'], 'excepthook'),
  ):
    monkeypatch.setattr(module, name, getattr(module, name))

  def forget():
    for name in list(flags.FLAGS):
      if name in own or name.startswith('config.'):
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()

  def run(command, *arguments):
    forget()
    # Two commands have flags of one name, so that each is loaded anew.
    name = command if '.' in command else f'musiclm_jax.{command}'
    spec = importlib.util.find_spec(name)
    module, known = importlib.util.module_from_spec(spec), set(flags.FLAGS)
    spec.loader.exec_module(module)
    own.update(set(flags.FLAGS) - known)
    argv = [command, *(a.replace('{tmp}', str(tmp_path)) for a in arguments)]
    monkeypatch.setattr(sys, 'argv', argv)
    capsys.readouterr()
    code = cli.exit_code(module.main, argv)
    return code, *capsys.readouterr()

  with mock.patch.dict(os.environ):
    yield run
  forget()
