"""The stage table: every config builds, and again from its stored JSON."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from musiclm_jax import stages
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.training import workdir
from musiclm_jax.training.optimizer import matrix_axes
from musiclm_jax.training.schedule import Best, Schedule

CONFIGS = Path(__file__).parents[1] / 'configs'


def load(stage: str, size: str) -> ConfigDict:
  namespace = {}
  exec((CONFIGS / f'{stage}.py').read_text(), namespace)
  return namespace['get_config'](size)


@pytest.mark.parametrize('size', ['tiny', 'small', 'paper'])
@pytest.mark.parametrize('stage', stages.STAGES)
def test_every_config_builds_and_its_json_builds_the_same(stage, size):
  config = load(stage, size)
  stored = json.loads(json.dumps(config.to_dict()))
  assert stages.build(config) == stages.build(stored)


@pytest.mark.parametrize('stage', stages.STAGES)
def test_inference_needs_nothing_that_only_training_needs(stage):
  config = load(stage, 'tiny').to_dict()
  for section in ('discriminators', 'schedule', 'optimizer', 'training'):
    config.pop(section, None)
  model = stages.build_inference(config)
  for name in ('init', 'losses', 'evaluate', 'total_steps', 'discriminators'):
    assert not hasattr(model, name)


@pytest.mark.parametrize('stage', [*stages.LANGUAGE_MODELS, 'parallel'])
def test_a_language_model_reads_the_streams_that_the_table_says(stage):
  record, config = stages.STAGES[stage], load(stage, 'paper').to_dict()
  if 'melody' in record.reads:
    config['layout']['melody'] = True
  streams = [segment.stream for segment in record.layout(config).segments]
  assert tuple(dict.fromkeys(streams)) == record.reads
  assert all(stages.token_stages(stream) for stream in streams)


def test_a_cascade_needs_no_parallel_lm():
  parts = stages.TOKENIZERS, stages.LANGUAGE_MODELS, stages.OPTIONAL
  assert {*stages.STAGES} - {name for part in parts for name in part} == {
    'parallel'
  }


def test_the_table_is_read_without_jax():
  code = "import sys, musiclm_jax.stages; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize('stage', stages.STAGES)
def test_an_unknown_size_lists_the_known_ones(stage):
  with pytest.raises(ValueError, match=r"'huge'.*tiny, small, paper"):
    load(stage, 'huge')


def test_an_unknown_stage_lists_the_known_ones():
  with pytest.raises(UsageError, match='semantic'):
    stages.build({'stage': 'sematic'})


@pytest.mark.parametrize('stage', stages.STAGES)
def test_schedule_keys_exist_for_every_stage(stage):
  keys = {field.name for field in dataclasses.fields(Schedule)}
  for size in ('tiny', 'small', 'paper'):
    schedule = load(stage, size).schedule
    assert set(schedule) == keys - {'earlier'}, 'which a run writes itself'
    # What is kept for ever is one of what is saved anyway.
    assert schedule.keep_every % schedule.save_every == 0


@pytest.mark.parametrize('stage', stages.STAGES)
def test_every_size_says_how_devices_share_parameters(stage):
  for size in ('tiny', 'small', 'paper'):
    mesh = sharding.make_mesh(**load(stage, size).mesh)
    assert mesh.devices.size == len(jax.devices())


def batch_of(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes that any stage's task takes."""
  frames = round(25 * config.data.crop_seconds)

  def ids(*shape):
    return jax.ShapeDtypeStruct((2, *shape), jnp.int32)

  takes = (2,) if config.stage == 'melody' else ()
  return {
    'waveform': jax.ShapeDtypeStruct((2, *takes, 960 * frames), jnp.float32),
    'text_ids': ids(1, config.data.get('text_length', 2)),
    'group': ids(),
    'mulan': ids(12),
    'semantic': ids(frames),
    'acoustic': ids(2 * frames, 12),
  }


@pytest.mark.parametrize(
  'stage', ['mulan', 'melody', 'semantic', 'coarse', 'fine', 'parallel']
)
def test_the_metric_of_the_best_checkpoint_is_one_that_is_taken(stage):
  config = load(stage, 'tiny')
  task, batch = stages.build(config), batch_of(config)
  params, collections = jax.eval_shape(task.init, jax.random.key(0), batch)
  metrics = jax.eval_shape(task.evaluate, params, collections, batch)
  for size in ('small', 'paper'):
    best = Best.parse(load(stage, size).schedule.keep_best)
    best.check([f'eval_{name}' for name in metrics])


@pytest.mark.parametrize('stage', ['w2v_bert', 'mulan', 'melody', 'coarse'])
def test_muons_matrices_are_all_axes_but_layers_and_heads(stage):
  """It knows modules by name; here their axes tell."""
  config = load(stage, 'tiny')
  batch = batch_of(config)
  task = stages.build(config)
  boxed, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
  axes = jax.tree.leaves(
    matrix_axes(nn.unbox(boxed)),
    is_leaf=lambda node: hasattr(node, 'reduction_axis'),
  )
  boxes = jax.tree_util.tree_leaves_with_path(
    boxed, is_leaf=lambda node: isinstance(node, nn.Partitioned)
  )
  checked = 0
  for (path, box), found in zip(boxes, axes, strict=True):
    names = getattr(box, 'names', ())
    if 'kernel' in jax.tree_util.keystr(path) and 'layers' in names:
      matrix = {*found.reduction_axis, found.output_axis}
      apart = {i for i, n in enumerate(names) if n in ('layers', 'heads')}
      assert matrix == set(range(len(names))) - apart, path
      checked += 1
  assert checked >= 6


# Fields of the codec that configs did not always have.
ADDED = (
  ('discriminators', 'stft_windows'),
  ('loss', 'mel_scales'),
  ('loss', 'mel_log_only'),
  ('loss', 'log_stft_weight'),
  ('loss', 'waveform_until_adversarial'),
  ('loss', 'relative_features'),
  ('loss', 'frozen_codes'),
)


def without_added(config: ConfigDict) -> dict:
  """As it was stored before they were added."""
  stored = json.loads(json.dumps(config.to_dict()))
  for section, field in ADDED:
    del stored[section][field]
  return stored


@pytest.mark.parametrize(
  ('size', 'same'), [('tiny', True), ('small', False), ('paper', True)]
)
def test_a_codec_from_before_has_the_papers_loss(size, same):
  config = load('soundstream', size)
  built = stages.build(without_added(config))
  assert (built == stages.build(config)) == same


def test_a_workdir_from_before_a_field_existed_goes_on(tmp_path):
  config = load('soundstream', 'tiny')
  old = without_added(config)
  config = config.to_dict()
  (tmp_path / workdir.CONFIG).write_text(json.dumps(old))
  workdir.describe(tmp_path, config, None)
  assert workdir.read_config(tmp_path)['loss']['mel_log_only'] is False
  config['loss']['mel_log_only'] = True
  with pytest.raises(UsageError, match='mel_log_only=False'):
    workdir.describe(tmp_path, config, None)
