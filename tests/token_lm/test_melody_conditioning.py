"""Melody tokens in the sequence of an LM: where they lie, what they do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from small_token_lms import generate

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.language_model import UNKNOWN, LanguageModel
from musiclm_jax.token_lm.layout import make_layout
from musiclm_jax.token_lm.model import make_lm
from musiclm_jax.token_lm.sampler import Sampler
from musiclm_jax.token_lm.task import TokenLMTask

STAGES = ('semantic', 'coarse')
K, LEVELS, WINDOWS = 8, 3, 2
SIZES = {
  'mulan_levels': 12,
  'mulan_codebook_size': 1024,
  'semantic_codebook_size': 1024,
  'semantic_frame_rate': 25.0,
  'acoustic_levels': 12,
  'acoustic_codebook_size': 1024,
  'acoustic_frame_rate': 50.0,
  'coarse_levels': 4,
}
SMALL = SIZES | {
  'crop_seconds': 0.4,
  'mulan_codebook_size': K,
  'semantic_codebook_size': K,
  'acoustic_levels': 3,
  'acoustic_codebook_size': K,
  'coarse_levels': 2,
  'melody_levels': LEVELS,
  'melody_codebook_size': K,
  'melody_window_seconds': 0.2,
  'melody_hop_seconds': 0.12,
}


def make_task(stage, **options):
  layout = make_layout(stage, **SMALL, melody=True)
  lm = make_lm(
    layout,
    time_buckets=6,
    time_peak=2.0,
    num_layers=1,
    embed_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=64,
    relative_buckets=16,
    relative_max_distance=layout.num_tokens,
  )
  return TokenLMTask(LanguageModel(lm), **options)


def make_batch(rows=2, seed=0):
  rng = np.random.default_rng(seed)
  shapes = {
    'mulan': (12,),
    'melody': (WINDOWS, LEVELS),
    'semantic': (10,),
    'acoustic': (20, 3),
  }
  return {
    name: rng.integers(0, K, (rows, *shape), np.int32)
    for name, shape in shapes.items()
  }


@functools.cache
def made(stage):
  task = make_task(stage)
  params, _ = jax.jit(task.init)(jax.random.key(0), make_batch())
  return task, nn.unbox(params)


@functools.cache
def logits_of(stage):
  task, params = made(stage)
  compiled = jax.jit(lambda batch: task.lm.logits(params, {}, batch))
  return lambda batch: np.asarray(compiled(batch))


@pytest.mark.parametrize(
  'stage, seconds, melody, conditioning, predicted',
  [
    ('semantic', 10.0, 72, 12 + 72, 250),
    ('semantic', 30.0, 216, 12 + 216, 750),
    ('coarse', 10.0, 72, 12 + 72 + 250, 2000),
  ],
)
def test_paper_sequences_with_a_melody_have_the_papers_lengths(
  stage, seconds, melody, conditioning, predicted
):
  layout = make_layout(stage, crop_seconds=seconds, melody=True, **SIZES)
  assert layout.melody.num_tokens == melody
  assert layout.num_conditioning == conditioning
  assert layout.predicted.num_tokens == predicted
  plain = make_layout(stage, crop_seconds=seconds, **SIZES)
  assert plain.melody is None
  assert layout.num_tokens - plain.num_tokens == melody
  # 24 levels of 512 and a mask of its own.
  assert layout.vocabulary_size - plain.vocabulary_size == 24 * 512 + 1


def test_the_fine_stage_hears_no_melody():
  with_melody, plain = (
    make_layout('fine', crop_seconds=3.0, melody=melody, **SIZES)
    for melody in (True, False)
  )
  assert with_melody == plain


def test_a_crop_without_a_window_is_refused():
  with pytest.raises(UsageError, match=r'2\.4 s are too short for a melody'):
    make_layout('semantic', crop_seconds=2.4, melody=True, **SIZES)


@pytest.mark.parametrize('stage', STAGES)
def test_melody_ids_are_time_major_level_minor_after_mulans(stage):
  task, batch = make_task(stage), make_batch()
  layout, ids = task.lm.layout, np.asarray(task.lm.tokens(batch))
  first = 12 * K
  for window in range(WINDOWS):
    for level in range(LEVELS):
      np.testing.assert_array_equal(
        ids[:, 12 + window * LEVELS + level],
        first + level * K + batch['melody'][:, window, level],
      )
  assert layout.offset(2) == first + LEVELS * K
  masks = layout.mask_id('mulan'), layout.mask_id('melody')
  assert masks == (layout.vocabulary_size - 2, layout.vocabulary_size - 1)
  masked = batch | {'melody': batch['melody'].copy()}
  masked['melody'][0, 1] = UNKNOWN
  ids = np.asarray(task.lm.tokens(masked, 5))
  end = 12 + WINDOWS * LEVELS
  assert (ids[:, 5:12] == masks[0]).all() and (ids[:, :5] < first).all()
  assert (ids[0, 12 + LEVELS : end] == masks[1]).all()
  assert not np.isin(ids[0, 12 : 12 + LEVELS], masks).any()
  assert not np.isin(ids[1, 12:end], masks).any()


def test_a_window_has_the_time_of_its_beginning():
  """Mistake 30: one position axis across segments of different rates."""
  keys = make_layout(
    'coarse', crop_seconds=10.0, melody=True, **SIZES
  ).key_ticks()
  assert (keys[:12] == -1).all()
  np.testing.assert_array_equal(keys[12:84], np.repeat([0, 75, 150], 24))
  np.testing.assert_array_equal(keys[84:], np.arange(250))


@pytest.mark.parametrize('stage', STAGES)
def test_half_of_the_heads_begin_at_the_window_that_sounds(stage):
  """All through a window; beside semantic tokens at their own time alone."""
  task, params = made(stage)
  bias = np.asarray(
    task.lm.model.apply(
      {'params': params['lm']}, method=lambda lm: lm.time_bias(10)
    )
  )
  assert bias.shape == (2, 19)
  peaked = {9 - k for k in np.flatnonzero(np.abs(bias[0] - 2.0) < 1e-6)}
  lasts = {'semantic': {0, 1, 2}, 'coarse': {0}}[stage]
  assert lasts <= peaked and 3 + len(lasts) not in peaked
  assert min(peaked) == 0, 'what comes later is not looked at'
  assert (np.abs(bias[1] - 2.0) > 1e-3).all()


@pytest.mark.parametrize('stage', STAGES)
def test_the_melody_moves_the_logits_unless_it_is_masked(stage):
  batch, other = make_batch(), make_batch(seed=1)
  logits = logits_of(stage)
  moved = np.abs(logits(batch | {'melody': other['melody']}) - logits(batch))
  assert (moved.max((0, 2)) > 1e-5).all(), 'every token depends on it'
  for window in range(WINDOWS):
    codes = batch['melody'].copy()
    codes[:, window, LEVELS - 1] = (codes[:, window, LEVELS - 1] + 1) % K
    moved = np.abs(logits(batch | {'melody': codes}) - logits(batch))
    assert moved.max() > 1e-5
  unknown = [
    batch | {'melody': np.full_like(batch['melody'], code)}
    for code in (UNKNOWN, UNKNOWN - 1)
  ]
  np.testing.assert_array_equal(*map(logits, unknown))
  assert np.abs(logits(unknown[0]) - logits(batch)).max() > 1e-5


def test_training_forgets_melodies_as_a_whole_and_as_often_as_asked():
  stage, batch = 'semantic', make_batch()
  _, params = made(stage)
  always = make_task(stage, no_melody_probability=1.0).losses()['lm']
  loss, _ = jax.jit(always)(params, {}, batch, jax.random.key(0), 0)
  unknown = batch | {'melody': np.full_like(batch['melody'], UNKNOWN)}
  for given, equal in ((unknown, True), (batch, False)):
    scores = jax.nn.log_softmax(logits_of(stage)(given))
    codes = batch['semantic'][..., None]
    nll = -np.take_along_axis(np.asarray(scores), codes, axis=-1).mean()
    assert np.isclose(loss, nll, rtol=1e-5) == equal
  task = make_task(stage, no_melody_probability=0.25)
  many = {'melody': jnp.zeros((4000, WINDOWS, LEVELS), jnp.int32)}
  codes = task._without_melodies(many, jax.random.key(1))['melody']
  forgotten = np.asarray(codes == UNKNOWN)
  rows = forgotten.all((1, 2))
  np.testing.assert_array_equal(rows, forgotten.any((1, 2)))
  assert abs(rows.mean() - 0.25) < 0.03
  kept = make_task(stage)._without_melodies(many, jax.random.key(1))
  assert (kept['melody'] == 0).all(), 'never, in the paper'


def test_what_only_the_melody_tells_is_learned_from_it():
  """Eight melodies, else equal conditioning; with the mask it guesses."""
  task, params = made('semantic')
  rng = np.random.default_rng(0)
  rows = 8
  batch = make_batch(rows) | {
    'mulan': np.zeros((rows, 12), np.int32),
    'semantic': rng.permutation(rows)[:, None].repeat(10, 1),
  }
  optimizer = optax.adam(1e-2)
  loss = task.losses()['lm']

  @jax.jit
  def train(params, state):
    def step(carry, key):
      params, state = carry
      _, gradient = jax.value_and_grad(lambda p: loss(p, {}, batch, key, 0)[0])(
        params
      )
      updates, state = optimizer.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(0), 80)
    return jax.lax.scan(step, (params, state), keys)[0][0]

  params = train(params, optimizer.init(params))
  nll = jax.jit(functools.partial(task.lm.nll, params, {}))
  masked = batch | {'melody': np.full_like(batch['melody'], UNKNOWN)}
  known, guessed = (np.asarray(nll(x))[:, 0].mean() for x in (batch, masked))
  assert known < 0.1 and guessed > np.log(rows) - 0.2


def test_guidance_and_generation_hear_the_melody():
  task, params = made('semantic')
  batch, other = make_batch(), make_batch(seed=1)

  sampler = Sampler(task.lm, params)

  def sample(melody, guidance):
    return generate(
      sampler,
      {'mulan': batch['mulan'], 'melody': melody},
      num_frames=10,
      keys=jax.random.split(jax.random.key(0), 2),
      sampling=SamplingParams(guidance=guidance),
    )

  one, same, two = (sample(x['melody'], 3.0) for x in (batch, batch, other))
  np.testing.assert_array_equal(one, same)
  assert (one != two).any()
