"""Shapes from the config alone against batches that are drawn."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from musiclm_jax import stages
from musiclm_jax.data import noise
from musiclm_jax.data.batches import (
  MelodyBook,
  melody_batches,
  text_audio_batches,
)
from musiclm_jax.rendered_music import melody_takes

CONFIGS = Path(__file__).parents[2] / 'configs'


def load(stage, size='paper'):
  path = CONFIGS / f'{stage}.py'
  return runpy.run_path(str(path))['get_config'](size).to_dict()


class Written:
  """Two silent pieces with one caption each."""

  sample_rate = 24_000

  def __len__(self):
    return 2

  def captioned(self):
    return range(2)

  def num_samples(self, i):
    return 240_000

  def read(self, i, start, num_samples):
    return np.zeros(num_samples, np.float32)

  def attributes(self, *crop):
    return None

  def describe(self, i, *crop_and_rng):
    return f'caption {i}', None


class Words:
  """Knows one word."""

  def encode(self, text, length):
    return np.ones(length, np.int32)


@pytest.mark.parametrize('stage', stages.STAGES)
def test_every_task_takes_the_shapes_of_its_paper_config(stage):
  config = load(stage)
  batch = stages.batch_shapes(config)
  task = stages.build(config)
  jax.eval_shape(task.init, jax.random.key(0), batch)
  assert {leaf.shape[0] for leaf in batch.values()} == {
    config['data']['batch_size']
  }


def test_melodies_have_the_shapes_that_are_said():
  config = load('melody', 'tiny')
  config['data']['batch_size'] = 2
  book = MelodyBook('train', 4, melody_takes.Variety())
  seconds = config['data']['crop_seconds']
  drawn = next(melody_batches(book, batch_size=2, crop_seconds=seconds, seed=0))
  described = stages.batch_shapes(config)
  assert {k: (v.shape, v.dtype) for k, v in drawn.items()} == {
    k: (v.shape, v.dtype) for k, v in described.items()
  }


def test_captioned_crops_have_the_entries_that_are_said():
  config = load('mulan', 'small')
  assert config['data']['mark_true_pairs']
  assert not load('mulan', 'tiny')['data']['mark_true_pairs']
  assert not load('mulan', 'paper')['data']['mark_true_pairs']
  config['data']['batch_size'] = 2
  options = ('batch_size', 'crop_seconds', 'text_length', 'captions_per_crop')
  drawn = next(
    text_audio_batches(
      Written(),
      Words(),
      seed=0,
      mark_true_pairs=True,
      **{name: config['data'][name] for name in options},
    )
  )
  described = stages.batch_shapes(config)
  assert {k: (v.shape, v.dtype) for k, v in drawn.items()} == {
    k: (v.shape, v.dtype) for k, v in described.items()
  }
  # As a workdir of before has it.
  del config['data']['mark_true_pairs']
  assert stages.batch_shapes(config).keys() == {
    *('waveform', 'text_ids', 'group')
  }


def test_noisy_crops_have_the_entries_that_are_said():
  config = load('soundstream', 'tiny')
  config['data'] |= {'noise_probability': 0.5, 'batch_size': 1}
  samples = round(24_000 * config['data']['crop_seconds'])
  rng = np.random.default_rng(0)
  drawn = noise.mixed(np.zeros(samples, np.float32), rng, 0.5)
  described = stages.batch_shapes(config)
  assert {k: (v[None].shape, v.dtype) for k, v in drawn.items()} == {
    k: (v.shape, v.dtype) for k, v in described.items()
  }
