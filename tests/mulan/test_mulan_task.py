"""The MuLan task: learning, windows, unit vectors, frozen statistics."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.framing import num_frames
from musiclm_jax.dsp.resample import resample_24k_to_16k
from musiclm_jax.mulan.embedder import mean_over_windows
from musiclm_jax.nn.embedding import unit


def _clip(samples, rows=2):
  rng = np.random.default_rng(1)
  sweep = np.sin(np.cumsum(np.linspace(0.05, 0.8, samples)))
  return (sweep + 0.1 * rng.normal(size=(rows, samples))).astype(np.float32)


def test_task_overfits_one_batch(task, initial, batch):
  """Mistake 40: overfit one batch before judging anything."""
  params, collections = initial
  optimizer = optax.adam(1e-2)
  state = optimizer.init(params['mulan'])

  @jax.jit
  def step(params, collections, state, k):
    (loss, (collections, metrics)), gradient = jax.value_and_grad(
      task.losses()['mulan'], has_aux=True
    )(params, collections, batch, jax.random.key(0), k)
    updates, state = optimizer.update(gradient['mulan'], state)
    moved = optax.apply_updates(params['mulan'], updates)
    return {'mulan': moved}, collections, state, (loss, metrics)

  for k in range(60):
    params, collections, state, (loss, metrics) = step(
      params, collections, state, k
    )
    if k == 0:
      first = float(loss)
  assert abs(first - math.log(14)) < 3.0
  assert loss < first - 4.0
  assert metrics['text_to_audio_recall_at_1'] == 1.0
  # Running statistics serve inference: the same pairs are found there.
  held = jax.jit(task.evaluate)(params, collections, batch)
  assert all(value.shape == (8,) for value in held.values())
  assert held['text_to_audio_recall_at_1'].mean() >= 7 / 8
  np.testing.assert_allclose(held['chance_loss'], math.log(14), rtol=1e-6)
  np.testing.assert_allclose(held['ln_batch'], math.log(8), rtol=1e-6)


def test_gradient_reaches_every_parameter(task, initial, batch):
  params, collections = initial
  shaken = jax.tree.map(lambda leaf: leaf + 0.05, params)  # off zero scales
  gradient, _ = jax.jit(jax.grad(task.losses()['mulan'], has_aux=True))(
    shaken, collections, batch, jax.random.key(0), 0
  )
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    name = jax.tree_util.keystr(path)
    if 'key' in name and 'bias' in name:
      continue  # softmax does not see a constant
    assert np.abs(leaf).max() > 0.0, name
    assert np.isfinite(leaf).all(), name


def test_the_task_leaves_true_captions_out_of_training_and_of_held_out_loss(
  task, initial, batch
):
  """Where all captions are true of all crops, nothing is left to push away."""
  words = np.ones((8, 1), np.int32)
  marks = {
    'piece': np.arange(8, dtype=np.int32),
    'facts': words,
    'claims': words[:, None].copy(),
  }
  marks['claims'][4:] = 2

  def losses(batch):
    loss, _ = jax.jit(task.losses()['mulan'])(
      *initial, batch, jax.random.key(0), 0
    )
    return loss, jax.jit(task.evaluate)(*initial, batch)

  _, plain = losses(batch)
  loss, half = losses(batch | marks)
  np.testing.assert_allclose(plain['chance_loss'], math.log(14), rtol=1e-6)
  # Of the first four no others' crops lack what they claim.
  terms = [4.0] * 4 + [10.0] * 4
  np.testing.assert_allclose(half['chance_loss'], np.log(terms), rtol=1e-6)
  assert np.isfinite(loss)
  marks['claims'][4:] = 1
  loss, nothing = losses(batch | marks)
  assert loss == 0.0
  np.testing.assert_array_equal(nothing['loss'], 0.0)


def test_only_training_moves_the_running_statistics(
  task, initial, batch, embed_audio
):
  """Mistake 14: a conditioner in training mode drifts."""
  params, collections = initial
  _, (moved, _) = jax.jit(task.losses()['mulan'])(
    params, collections, batch, jax.random.key(0), 0
  )
  before = collections['mulan']['standardise']['mean']
  after = moved['mulan']['standardise']['mean']
  assert np.abs(after - before).max() > 0.1
  alone = embed_audio(params, moved, batch['waveform'][:2])
  among = embed_audio(params, moved, batch['waveform'])[:2]
  np.testing.assert_allclose(alone, among, atol=1e-5)


def test_windows_are_averaged_and_scaled_again(task, initial, embed_audio):
  """10 s windows every second: here 0.5 s every 0.1 s."""
  params, collections = initial
  waveform = _clip(21_600)  # 0.9 s
  at_16k = resample_24k_to_16k(waveform)
  variables = {
    'params': params['mulan'],
    'batch_stats': collections['mulan'],
  }
  one = jax.jit(
    lambda w: task.mulan.model.apply(variables, w, method='embed_window')
  )
  parts = [one(at_16k[:, s : s + 8000]) for s in range(0, 6401, 1600)]
  expected = unit(np.mean(parts, axis=0))
  assert len(parts) == 5
  np.testing.assert_allclose(
    embed_audio(params, collections, waveform), expected, atol=1e-5
  )


@pytest.mark.parametrize(
  ('seconds', 'count'), [(30, 21), (10, 1), (10.9, 1), (11, 2)]
)
def test_thirty_seconds_are_21_windows(seconds, count):
  samples = round(seconds * 16_000)
  assert num_frames(samples, 160_000, 16_000) == count
  seen = []

  def embed(window):
    seen.append(window.shape)
    return jnp.ones((len(window), 4))

  mean_over_windows(embed, jnp.zeros((1, samples)), window=160_000, hop=16_000)
  assert seen == [(1, 160_000)]  # one program for all windows


def test_short_clips_are_repeated_not_padded_with_silence(initial, embed_audio):
  """Mistake 33: an embedding computed on mostly silence."""
  np.testing.assert_allclose(
    embed_audio(*initial, _clip(5_000)),
    embed_audio(*initial, np.tile(_clip(5_000), (1, 3))[:, :12_000]),
    atol=1e-5,
  )
  with pytest.raises(ValueError, match='0 samples'):
    embed_audio(*initial, np.zeros((1, 0), np.float32))


def test_both_modalities_are_unit_vectors(
  initial, batch, embed_audio, embed_text
):
  """Mistake 16: text embeddings not normalised as audio."""
  audio = embed_audio(*initial, batch['waveform'])
  text = embed_text(*initial, batch['text_ids'][:, 0])
  for embedding in (audio, text):
    assert embedding.shape == (8, 16) and embedding.dtype == jnp.float32
    norms = np.linalg.norm(embedding, axis=-1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-5)


def test_silence_has_a_finite_embedding_and_gradient(task, initial, batch):
  silent = {**batch, 'waveform': np.zeros_like(batch['waveform'])}
  (loss, _), gradient = jax.jit(
    jax.value_and_grad(task.losses()['mulan'], has_aux=True)
  )(*initial, silent, jax.random.key(0), 0)
  assert np.isfinite(loss)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_training_crops_of_another_length_are_refused(task, initial, batch):
  longer = {**batch, 'waveform': _clip(15_000, rows=8)}
  with pytest.raises(UsageError, match='crop_seconds'):
    jax.eval_shape(
      task.losses()['mulan'], *initial, longer, jax.random.key(0), 0
    )
