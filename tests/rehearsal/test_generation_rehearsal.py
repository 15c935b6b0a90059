"""Rehearsals of generation: their programs compile, their sums are by hand."""

import runpy
from pathlib import Path

import jax
import pytest

from musiclm_jax import stages
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.rehearsal import table
from musiclm_jax.rehearsal.generation import rehearse_generation
from musiclm_jax.rehearsal.topology import open_topology

CONFIGS = Path(__file__).parents[2] / 'configs'
LAYERS, WIDTH, HEADS, HEAD, MLP = 2, 64, 2, 32, 128
CHIPS = 4


def _config(stage, tensor=1, **model):
  config = runpy.run_path(str(CONFIGS / f'{stage}.py'))['get_config']('tiny')
  config.model.update(model, dtype='bfloat16')
  config.mesh.tensor = tensor
  return config.to_dict()


def _lm_config(tensor=1):
  return _config(
    'coarse',
    tensor,
    num_layers=LAYERS,
    embed_dim=WIDTH,
    num_heads=HEADS,
    head_dim=HEAD,
    mlp_dim=MLP,
  )


@pytest.fixture(scope='module')
def slice_of_four(absent_tpu):
  """Four chips, for which XLA compiles in a hurry."""
  before = jax.config.jax_exec_time_optimization_effort
  jax.config.update('jax_exec_time_optimization_effort', -1.0)
  yield open_topology('v5e:2x2')
  jax.config.update('jax_exec_time_optimization_effort', before)


@pytest.fixture(scope='module')
def alone(slice_of_four):
  """A coarse LM of which every chip has a copy."""
  return rehearse_generation(_lm_config(), slice_of_four)


def test_a_token_costs_what_a_hand_counts(alone):
  layout = stages.build_inference(_lm_config()).layout
  kernels = LAYERS * WIDTH * (4 * HEADS * HEAD + 3 * MLP)
  logits = WIDTH * layout.predicted.codebook_size
  *_, last = alone['passes']
  reach = layout.num_tokens
  cached = 2 * LAYERS * HEADS * HEAD * reach  # keys and values of a row
  by_hand = CHIPS * 2 * (kernels + logits + cached)
  assert by_hand <= last['flops'] <= 1.002 * by_hand, 'biases are left'
  # Kernels and cache in bfloat16, the table in float32, one row a chip.
  small = last['bytes'] - (2 * kernels + 4 * logits + 2 * cached)
  assert 0 <= small < 0.02 * last['bytes'], 'norms and biases are left'


def test_all_tokens_of_half_a_crop_are_drawn(alone):
  predicted = stages.build_inference(_lm_config()).layout.predicted
  reading, *drawing = alone['passes']
  assert reading['per_second'] == 2 / 2.4, 'crops of 2.4 s'
  drawn = sum(one['per_second'] for one in drawing)
  assert drawn == pytest.approx(
    predicted.frame_rate * predicted.num_levels, rel=1e-6
  )


def test_the_bound_is_what_its_passes_make_of_it(alone, slice_of_four):
  chip = slice_of_four.chip
  by_hand = sum(
    one['per_second']
    * max(
      one['flops'] / (chip.peak * CHIPS),
      one['bytes'] / chip.hbm_bandwidth,
      one['link_seconds'],
    )
    for one in alone['passes']
  )
  assert alone['seconds'] == pytest.approx(by_hand)
  assert alone['fits'] and alone['pieces'] == alone['rows'] == CHIPS
  assert 'bound by memory traffic' in table.lines(alone)


def test_two_chips_share_the_layers_of_a_piece(alone, slice_of_four):
  shared = rehearse_generation(_lm_config(tensor=2), slice_of_four)
  assert shared['pieces'] == CHIPS / 2
  ratio = shared['passes'][-1]['bytes'] / alone['passes'][-1]['bytes']
  assert 0.45 < ratio < 0.6, 'kernels and cache are halved'
  assert shared['passes'][-1]['link_seconds'] > 0
  assert all(one['link_seconds'] == 0 for one in alone['passes'])


def test_a_parallel_lm_and_a_codec_have_few_passes(slice_of_four):
  config = _config('parallel', num_layers=1, embed_dim=32, mlp_dim=32)
  parallel = rehearse_generation(config, slice_of_four)
  (window,) = parallel['passes']
  assert window['per_second'] == pytest.approx(2 / 2.4)
  codec = rehearse_generation(
    _config('soundstream', channels=2, latent_dim=4, dilations=(1,)),
    slice_of_four,
  )
  assert [one['per_second'] for one in codec['passes']] == [1.0]
  assert parallel['fits'] and codec['fits']


def test_a_network_that_makes_no_music_is_refused(slice_of_four):
  with pytest.raises(UsageError, match="'mulan' makes no music"):
    rehearse_generation({'stage': 'mulan'}, slice_of_four)
