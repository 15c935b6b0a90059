"""Shapes from the config alone against batches that are drawn."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from musiclm_jax import stages
from musiclm_jax.data import noise
from musiclm_jax.data.batches import MelodyBook, melody_batches
from musiclm_jax.rendered_music import melody_takes

CONFIGS = Path(__file__).parents[2] / 'configs'


def load(stage, size='paper'):
  path = CONFIGS / f'{stage}.py'
  return runpy.run_path(str(path))['get_config'](size).to_dict()


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
