"""Layouts: lengths, offsets, flattening, shared time."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from musiclm_jax import stages
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.token_lm import layout as layouts

CONFIGS = Path(__file__).parents[2] / 'configs'
PAPER = {
  'mulan_levels': 12,
  'mulan_codebook_size': 1024,
  'semantic_codebook_size': 1024,
  'semantic_frame_rate': 25.0,
  'acoustic_levels': 12,
  'acoustic_codebook_size': 1024,
  'acoustic_frame_rate': 50.0,
  'coarse_levels': 4,
}


def config_module(stage):
  spec = importlib.util.spec_from_file_location(stage, CONFIGS / f'{stage}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize(
  'stage,seconds,conditioning,predicted',
  [
    ('semantic', 30.0, 12, 750),
    ('coarse', 10.0, 12 + 250, 2000),
    ('fine', 3.0, 12 + 600, 1200),
  ],
)
def test_paper_sequences_have_the_papers_lengths(
  stage, seconds, conditioning, predicted
):
  """Mistakes 22, 34: frame counts that drift from rate x seconds."""
  layout = layouts.make_layout(stage, crop_seconds=seconds, **PAPER)
  assert layout.num_conditioning == conditioning
  assert layout.predicted.num_tokens == predicted
  assert layout.num_tokens == conditioning + predicted


def test_a_crop_of_part_frames_is_refused():
  with pytest.raises(UsageError, match=r'multiple of 0\.04'):
    layouts.make_layout('coarse', crop_seconds=2.5, **PAPER)


@pytest.mark.parametrize('stage', ['semantic', 'coarse', 'fine'])
def test_ids_of_segments_and_levels_never_meet(stage):
  """Mistake 23: ids offset by fewer than the rows that a level has."""
  sizes = PAPER | {
    'mulan_codebook_size': 5,
    'semantic_codebook_size': 7,
    'acoustic_codebook_size': 6,
  }
  layout = layouts.make_layout(stage, crop_seconds=0.2, **sizes)
  seen = []
  for index, segment in enumerate(layout.segments):
    for level in range(segment.num_levels):
      codes = np.zeros((1, segment.codebook_size, segment.num_levels), int)
      codes[0, :, level] = np.arange(segment.codebook_size)
      ids = layouts.flatten_codes(
        codes, layout.offset(index), segment.codebook_size
      ).reshape(-1, segment.num_levels)[:, level]
      seen.extend(np.asarray(ids).tolist())
  assert len(seen) == len(set(seen)) == layout.vocabulary_size - 1
  assert layout.mask_id('mulan') not in seen
  assert sorted([*seen, layout.mask_id('mulan')]) == list(
    range(layout.vocabulary_size)
  )


def test_each_stream_keeps_its_own_codebook_size():
  """Mistake 36: the k-means' codebook size given to the coarse model."""
  sizes = PAPER | {'semantic_codebook_size': 300, 'acoustic_codebook_size': 64}
  layout = layouts.make_layout('coarse', crop_seconds=1.0, **sizes)
  assert [s.codebook_size for s in layout.segments] == [1024, 300, 64]
  assert layout.predicted.codebook_size == 64


def test_flattening_is_row_major_by_time():
  codes = np.random.default_rng(0).integers(0, 9, (2, 5, 3))
  tokens = layouts.flatten_codes(codes, 100, 9)
  assert tokens.shape == (2, 15)
  assert tokens[1, 4 * 3 + 2] == 100 + 2 * 9 + codes[1, 4, 2]
  rows = np.asarray(tokens).reshape(2, 5, 3)
  np.testing.assert_array_equal(rows - 100 - 9 * np.arange(3), codes)


def test_segments_of_two_rates_share_their_time():
  """Mistake 30: one position axis across segments of different rates."""
  layout = layouts.make_layout('coarse', crop_seconds=1.0, **PAPER)
  keys, queries = layout.key_ticks(), layout.query_ticks()
  assert keys.shape == (layout.num_conditioning,)
  assert queries.shape == (layout.num_tokens,)
  assert (keys[:12] == -1).all() and (queries[: len(keys) - 1] == -1).all()
  # What predicts level q of acoustic frame 20 stands one token before it.
  acoustic = layout.num_conditioning + 4 * 20 + np.arange(4) - 1
  assert (queries[acoustic] == keys[12 + 10]).all()
  np.testing.assert_array_equal(keys[12:], np.arange(25))


@pytest.mark.parametrize('stage', ['semantic', 'coarse', 'fine'])
@pytest.mark.parametrize('size', ['tiny', 'small', 'paper'])
def test_configs_make_layouts_whose_distances_the_buckets_span(stage, size):
  config = config_module(stage).get_config(size)
  lm = stages.build(config).lm
  assert lm.model.transformer.relative_max_distance == lm.layout.num_tokens
  assert lm.layout.melody is None
  if stage != 'fine':
    config.layout.melody = True
    config.data.crop_seconds = max(config.data.crop_seconds, 4.0)
    lm = stages.build(config).lm
    assert lm.layout.melody is not None
    assert lm.model.transformer.relative_max_distance == lm.layout.num_tokens
  config.model.relative_max_distance = 50  # as workdirs have it
  assert stages.build(config).lm.model.transformer.relative_max_distance == 50


def test_an_unknown_size_lists_the_known_ones():
  with pytest.raises(ValueError, match='tiny, small, paper'):
    config_module('semantic').get_config('huge')


def test_the_ablation_reads_no_semantic_tokens():
  config = config_module('coarse').get_config('paper')
  assert config.layout.semantic
  config.layout.semantic = False
  layout = stages.build(config).lm.layout
  assert [s.stream for s in layout.segments] == ['mulan', 'acoustic']
  assert layout.num_tokens == 12 + 2000
  assert stages.batch_shapes(config).keys() == {'mulan', 'acoustic'}
  # A config that was stored before the field existed has semantic tokens.
  old = config_module('coarse').get_config('paper').to_dict()
  del old['layout']['semantic']
  assert stages.build(old).lm.layout.num_tokens == 12 + 250 + 2000
