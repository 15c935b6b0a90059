"""Every number and word of every config at its edges: built, or one line.

A step is traced as a training would, without compiling it.
"""

import runpy
from pathlib import Path

import jax
import pytest

from musiclm_jax import stages
from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.rehearsal import rehearsal

CONFIGS = Path(__file__).parents[2] / 'configs'
# What is not in the config but makes it small enough to be traced often.
SMALL = {
  'mulan': {'data.crop_seconds': 1.0, 'loss.window_seconds': 1.0},
  'soundstream': {'model.channels': 2, 'data.crop_seconds': 0.12},
  'w2v_bert': {'data.crop_seconds': 1.0},
}
BUILT = ('model', 'discriminators', 'layout', 'loss', 'data')
pytestmark = pytest.mark.soak


def config_of(stage):
  path = CONFIGS / f'{stage}.py'
  config = runpy.run_path(str(path))['get_config']('tiny')
  config.update_from_flattened_dict(SMALL.get(stage, {}))
  return config


def edges(key, value):
  """Values of the same type that someone may try."""
  if isinstance(value, bool | type(None)) or key in ('source', 'unseen_leads'):
    return ()  # the data says whether it knows them
  if isinstance(value, str):
    return ('', 'foo')
  least = bounds.CONFIG[key][0]
  return (least, type(value)(3))


def cases():
  for stage in stages.STAGES:
    for key, value in bounds._values(config_of(stage)):
      if key.partition('.')[0] not in BUILT:
        continue
      for edge in edges(key.rsplit('.', 1)[-1], value):
        yield stage, key, edge


@pytest.mark.parametrize(('stage', 'key', 'value'), list(cases()))
def test_a_config_at_its_edge_is_built_or_refused_in_words(stage, key, value):
  config = config_of(stage)
  node = config
  for section in key.split('.'):
    old, node = node, node[section]
  many = isinstance(node, list | tuple)
  old[key.rsplit('.', 1)[-1]] = (value,) * len(node) if many else value
  try:
    bounds.check_config(config)
    planned = rehearsal.plan(config.to_dict(), jax.devices())
    step = planned.step(planned.task)
    jax.eval_shape(step, planned.state, planned.batch)
  except UsageError as refused:
    assert '\n' not in str(refused)
