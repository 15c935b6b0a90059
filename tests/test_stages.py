"""The stage table: every config builds, and again from its stored JSON."""

import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from musiclm_jax import stages
from musiclm_jax.contracts.errors import UsageError

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
def test_an_unknown_size_lists_the_known_ones(stage):
  with pytest.raises(ValueError, match=r"'huge'.*tiny, small, paper"):
    load(stage, 'huge')


def test_an_unknown_stage_lists_the_known_ones():
  with pytest.raises(UsageError, match='semantic'):
    stages.build({'stage': 'sematic'})


@pytest.mark.parametrize('stage', stages.STAGES)
def test_schedule_keys_exist_for_every_stage(stage):
  keys = {'total_steps', 'log_every', 'eval_every', 'save_every'}
  assert set(load(stage, 'tiny').schedule) == keys
