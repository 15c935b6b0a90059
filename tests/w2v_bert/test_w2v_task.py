import dataclasses
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from musiclm_jax import stages
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.resample import resample_24k_to_16k
from musiclm_jax.w2v_bert import frontend
from musiclm_jax.w2v_bert.features import SemanticFeatures
from musiclm_jax.w2v_bert.frontend import (
  add_frames,
  init_statistics,
  standardise,
)
from musiclm_jax.w2v_bert.model import W2vBert
from musiclm_jax.w2v_bert.task import W2vBertTask

CONFIGS = Path(__file__).parents[2] / 'configs'
MODEL = {
  'embed_dim': 8,
  'num_heads': 2,
  'mlp_dim': 8,
  'contrastive_blocks': 1,
  'masked_blocks': 1,
  'codebook_size': 8,
  'code_dim': 8,
  'conv_channels': (2, 2),
}


def config(name, size):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(size)


@pytest.fixture(scope='module')
def features(task):
  return jax.jit(task.semantic.features)


@pytest.fixture(scope='module')
def loss(task):
  return jax.jit(task.losses()['w2v_bert'])


@pytest.mark.parametrize('samples', [960, 1919, 24_000, 48_500])
def test_one_frame_every_960_samples_exactly(task, initial, samples):
  """Mistake 22: one frame too few or too many for rate times seconds."""
  shape = jax.eval_shape(
    task.semantic.features,
    *initial,
    jax.ShapeDtypeStruct((2, samples), jnp.float32),
  )
  assert shape.shape == (2, samples // 960, task.semantic.model.embed_dim)
  assert task.semantic.frame_rate * task.semantic.hop_length == 24_000


def test_less_than_one_frame_is_refused(task, initial):
  with pytest.raises(UsageError, match='960 samples'):
    task.semantic.features(*initial, jnp.zeros((1, 959)))


def test_log_mels_hear_24_khz_as_16_khz():
  """Mistake 18: the wrong sample rate for the self-supervised model."""
  time = np.arange(24_000) / 24_000
  tone = np.sin(2 * np.pi * 1000 * time)[None].astype(np.float32)
  mels = frontend.log_mels(tone, 80)
  assert mels.shape == (1, 100, 80)
  edges = np.linspace(
    2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 7600 / 700), 82
  )
  nearest = np.abs(edges[1:-1] - 2595 * np.log10(1 + 1000 / 700)).argmin()
  assert int(mels[0, 50].argmax()) == nearest
  nothing = np.sin(2 * np.pi * 9500 * time)[None].astype(np.float32)
  assert frontend.log_mels(nothing, 80)[0, 10:90].max() < mels.max() - 5


def test_an_envelope_has_no_level_and_unit_variance():
  rng = np.random.default_rng(3)
  mels = 2.0 * rng.normal(size=(1, 4000, 16)).cumsum(axis=-1)
  made = []
  for level in (0.0, 3.0):
    louder = frontend.cepstra(jnp.asarray(mels + level, jnp.float32))
    statistics = add_frames(init_statistics(16), louder)
    made.append(frontend.envelope(standardise(statistics, louder), 6))
  np.testing.assert_allclose(made[0], made[1], atol=1e-3)
  assert np.mean(made[0] ** 2) == pytest.approx(1.0, abs=1e-3)
  kept = np.abs(frontend.cepstra(made[0])).mean(axis=(0, 1)) > 1e-3
  assert kept.tolist() == [False] + 6 * [True] + 9 * [False]


def test_log_mels_equal_librosa(waveform):
  librosa = pytest.importorskip('librosa')
  x = np.asarray(resample_24k_to_16k(waveform[:1]))[0]
  frames = librosa.util.frame(
    np.pad(x, 120), frame_length=400, hop_length=160, axis=0
  )
  window = librosa.filters.get_window('hann', 400)
  basis = librosa.filters.mel(
    sr=16_000, n_fft=512, n_mels=80, fmin=60, fmax=7600, htk=True, norm=None
  )
  spectrum = np.abs(np.fft.rfft(frames * window, 512)) @ basis.T
  expected = np.log(np.maximum(spectrum, 1e-4))
  ours = frontend.log_mels(waveform[:1], 80)[0]
  np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_frame_t_hears_its_own_40_ms():
  """A click in frame t moves log-mels most at t: no drift, no offset."""
  mels = frontend.log_mels(np.zeros((1, 48_000), np.float32), 80)
  for frame in (3, 20, 47):
    x = np.zeros((1, 48_000), np.float32)
    x[0, frame * 960 + 480] = 1.0
    moved = np.abs(frontend.log_mels(x, 80) - mels).max(-1)[0]
    assert moved.reshape(50, 4).max(axis=1).argmax() == frame


def test_features_are_unmasked_and_deterministic(initial, features, waveform):
  """Mistake 17: tokens extracted with the training mask left on."""
  np.testing.assert_array_equal(
    features(*initial, waveform), features(*initial, waveform)
  )
  # A mask or noise would differ between rows of the same sound.
  same = np.stack([waveform[0]] * 4)
  rows = features(*initial, same)
  np.testing.assert_allclose(rows, rows[:1].repeat(4, 0), atol=1e-5)


def test_training_hides_the_masked_frames(task, initial, waveform):
  """Mistake 17, other side: what is masked must not reach the modules."""
  params, collections = initial
  mels = jax.random.normal(jax.random.key(0), (1, 40, 80))
  mask = jnp.zeros((1, 10), bool).at[:, 3:8].set(True)

  @jax.jit
  def output(mels):
    return task.semantic.model.apply(
      {'params': params['w2v_bert']},
      mels,
      mask,
      collections['w2v_bert']['latents'],
      jax.random.key(1),
    )

  # log-mel frames 16 ... 24 are seen by latents 3 ... 7 only
  a, b = output(mels), output(mels.at[:, 20:22].add(3.0))
  np.testing.assert_array_equal(a.context, b.context)
  np.testing.assert_array_equal(a.logits, b.logits)
  assert np.abs(a.quantized.probabilities - b.quantized.probabilities).max() > 0


def test_a_depth_that_the_network_lacks_is_refused(task):
  semantic = SemanticFeatures(task.semantic.model.clone(feature_depth=5))
  with pytest.raises(UsageError, match='feature_depth=5: choose at most 4'):
    _ = semantic.depths


def test_the_projection_sees_no_other_frames(task):
  semantic = SemanticFeatures(task.semantic.model.clone(feature_depth=0))
  assert semantic.context_frames == 1


def test_features_leave_block_seven_of_twelve(
  task, initial, features, waveform
):
  """Mistake 21: off by one in the block whose output is used."""

  def of(masked_blocks):
    model = task.semantic.model.clone(masked_blocks=masked_blocks)
    return SemanticFeatures(model).feature_block

  assert [of(n) for n in (1, 2, 4, 12)] == [1, 1, 2, 7]
  assert task.semantic.feature_block == 2
  params, collections = initial

  def scaled(block):
    """Zeroes the scale of one block's final norm: its output is constant."""
    changed = jax.tree.map(jnp.copy, params)
    norm = changed['w2v_bert']['masked_prediction']['blocks']['final_norm']
    norm['scale'] = norm['scale'].at[block].set(0.0)
    return features(changed, collections, waveform)

  assert jnp.ptp(scaled(1)) == 0  # the second block is the last one used
  np.testing.assert_array_equal(
    scaled(2), features(params, collections, waveform)
  )


def test_features_follow_the_standardised_corpus(
  initial, features, loss, waveform
):
  """Mistake 19: features normalised in training, but not at inference."""
  params, collections = initial
  own = collections['w2v_bert']
  mels = frontend.log_mels(waveform, 80)
  moved = {**own['statistics'], 'mean': own['statistics']['mean'] + 1.0}
  shifted = {'w2v_bert': {**own, 'statistics': moved}}
  assert (
    jnp.abs(
      features(params, shifted, waveform)
      - features(params, collections, waveform)
    ).max()
    > 1e-3
  )
  _, (new, _) = loss(
    params, collections, {'waveform': waveform}, jax.random.key(0), jnp.int32(0)
  )
  np.testing.assert_allclose(
    new['w2v_bert']['statistics']['mean'], mels.mean((0, 1)), atol=1e-3
  )


def test_statistics_are_constant_once_masked_prediction_begins(
  initial, loss, waveform
):
  params, collections = initial
  batch = {'waveform': waveform}
  counts = []
  for step in (0, 5, 6, 100):
    _, (collections, _) = loss(
      params, collections, batch, jax.random.key(step), jnp.int32(step)
    )
    counts.append(int(collections['w2v_bert']['statistics']['count']))
  assert counts == [800, 1600, 1600, 1600]


def test_masked_prediction_joins_after_a_tenth_of_the_run(
  initial, loss, waveform
):
  params, collections = initial
  batch = {'waveform': waveform}
  for step, joined in ((5, 0.0), (6, 1.0)):
    total, (_, m) = loss(
      params, collections, batch, jax.random.key(0), jnp.int32(step)
    )
    expected = (
      m['contrastive_loss']
      + 0.1 * m['diversity_loss']
      + joined * m['masked_loss']
    )
    assert total == pytest.approx(float(expected), rel=1e-5)


def test_temperature_falls_from_2_to_a_half_over_the_run(task):
  temperatures = [float(task.temperature(step)) for step in (0, 59.5, 119, 500)]
  np.testing.assert_allclose(temperatures, [2.0, 1.0, 0.5, 0.5], rtol=1e-5)


def test_a_longer_training_warms_nothing_up_again(task):
  longer = dataclasses.replace(task, total_steps=480, earlier=((60, 120),))
  steps = (60, 100, 300, 479)
  found = [float(longer.temperature(step)) for step in steps]
  assert found == sorted(found, reverse=True)
  np.testing.assert_allclose(found[0], float(task.temperature(60)), rtol=1e-6)
  np.testing.assert_allclose(found[-1], 0.5, rtol=1e-6)
  ended = dataclasses.replace(task, total_steps=480, earlier=((120, 120),))
  assert float(ended.temperature(130)) == pytest.approx(0.5)
  assert ended._horizon.begins(task.contrastive_only) == 6.0


def test_task_overfits_one_batch(task, initial, waveform):
  params, collections = initial
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(3e-3, b2=0.98)
  )
  state = optimizer.init(params)

  @jax.jit
  def step(params, collections, state, step):
    (_, (collections, metrics)), gradients = jax.value_and_grad(
      task.losses()['w2v_bert'], has_aux=True
    )(params, collections, {'waveform': waveform}, jax.random.key(0), step)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), collections, state, metrics

  for k in range(task.total_steps + 40):  # the last ones at the final loss
    params, collections, state, metrics = step(params, collections, state, k)
  assert metrics['masked_accuracy'] > 0.8
  assert metrics['contrastive_accuracy'] > 0.4
  assert metrics['code_perplexity'] > 4
  held = jax.jit(task.evaluate)(params, collections, {'waveform': waveform})
  assert held['masked_accuracy'].mean() > 0.5


def test_evaluation_is_per_example_and_repeatable(task, initial, waveform):
  evaluate = jax.jit(task.evaluate)
  first = evaluate(*initial, {'waveform': waveform})
  again = evaluate(*initial, {'waveform': waveform})
  for name, values in first.items():
    assert values.shape == (4,)
    np.testing.assert_array_equal(values, again[name])
  assert {'loss', 'code_perplexity', 'masked_accuracy', 'collapsed'} <= set(
    first
  )


def test_collapse_is_detected(task, initial, waveform):
  params, collections = initial
  evaluate = jax.jit(task.evaluate)
  fine = evaluate(params, collections, {'waveform': waveform})
  changed = jax.tree.map(jnp.copy, params)
  logits = changed['w2v_bert']['quantizer']['logits']
  logits['bias'] = logits['bias'].at[3].set(1e3)
  gone = evaluate(changed, collections, {'waveform': waveform})
  assert fine['collapsed'].max() == 0
  assert gone['collapsed'].min() == 1
  assert gone['code_perplexity'][0] == pytest.approx(1.0)
  assert gone['diversity_loss'][0] == pytest.approx(1 - 1 / 16)


@pytest.mark.soak
def test_batch_norm_statistics_are_a_collection(waveform):
  task = W2vBertTask(
    SemanticFeatures(W2vBert(**MODEL, conv_norm='batch', dropout_rate=0.1)),
    total_steps=10,
  )
  batch = {'waveform': waveform}
  params, collections = nn.unbox(jax.jit(task.init)(jax.random.key(0), batch))
  before = collections['w2v_bert']['batch_stats']
  assert jax.tree.leaves(before)
  gradients, (after, _) = jax.jit(
    jax.grad(task.losses()['w2v_bert'], has_aux=True)
  )(params, collections, batch, jax.random.key(0), jnp.int32(9))
  assert jax.tree.structure(after) == jax.tree.structure(collections)
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()), before, after['w2v_bert']['batch_stats']
  )
  assert all(jax.tree.leaves(moved))
  out = jax.jit(task.semantic.features)(params, after, waveform)
  assert out.shape == (4, 50, 8)


def test_network_has_the_paper_size():
  """0.6 B parameters: 24 blocks 604.8 M, all else 4.5 M (2108.06209)."""
  task = stages.build(config('w2v_bert', 'paper'))
  batch = {'waveform': jax.ShapeDtypeStruct((2, 96_000), jnp.float32)}
  params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
  counts = {
    name: sum(leaf.size for leaf in jax.tree.leaves(part))
    for name, part in params['w2v_bert'].items()
  }
  assert counts['contrastive'] + counts['masked_prediction'] == 604_790_784
  assert sum(counts.values()) == 609_290_784


@pytest.mark.parametrize('name', ['w2v_bert', 'kmeans'])
@pytest.mark.parametrize('size', ['tiny', 'small', 'paper'])
def test_every_config_builds_its_task(name, size):
  assert stages.build(config(name, size)) == stages.build(
    config(name, size).to_dict()
  )


@pytest.mark.parametrize('name', ['w2v_bert', 'kmeans'])
def test_unknown_size_lists_the_known_ones(name):
  with pytest.raises(ValueError, match='choose one of tiny, small, paper'):
    config(name, 'huge')
