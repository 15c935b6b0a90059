"""The melody task: learning, windows, unit vectors, what moves the output."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.melody import embedder
from musiclm_jax.melody.embedder import MelodyEmbedder
from musiclm_jax.melody.model import MelodyViT
from musiclm_jax.melody.task import MelodyTask


def test_task_overfits_one_batch(task, initial, batch, value_and_grad):
  """Mistake 40: overfit one batch before judging anything."""
  params, collections = initial
  optimizer = optax.adam(3e-3)
  state = optimizer.init(params)

  @jax.jit
  def update(params, state, gradient):
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state

  record = []
  for k in range(50):
    (loss, (_, metrics)), gradient = value_and_grad(
      params, collections, batch, jax.random.key(0), k
    )
    params, state = update(params, state, gradient)
    record.append(float(loss))
  assert record[0] > 0.1, 'it must have something to learn'
  assert record[-1] < 0.2 * record[0]
  assert metrics['recall_at_1'] == 1.0
  held = jax.jit(task.evaluate)(params, collections, batch)
  assert all(value.shape == (6,) for value in held.values())
  assert held['recall_at_1'].mean() == 1.0
  assert held['positive_distance'].mean() < held['negative_distance'].mean()


def test_gradient_reaches_every_parameter(initial, batch, value_and_grad):
  _, gradient = value_and_grad(*initial, batch, jax.random.key(0), 0)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
    name = jax.tree_util.keystr(path)
    if 'key' in name and 'bias' in name:
      continue  # softmax does not see a constant
    assert np.abs(leaf).max() > 0.0, name
    assert np.isfinite(leaf).all(), name


def test_sound_moves_the_output_and_level_does_not(initial, batch, embed_audio):
  first, second = batch['waveform'][:, 0], batch['waveform'][::-1, 0]
  here = embed_audio(*initial, first)
  assert np.abs(here - embed_audio(*initial, second)).max() > 1e-2
  late = first.copy()
  late[:, -2400:] = second[:, -2400:]
  assert np.abs(here - embed_audio(*initial, late)).max() > 1e-3
  louder = embed_audio(*initial, 2.0 * first)
  assert np.abs(here - louder).max() < 0.1 * np.abs(here).max()


def test_an_embedding_does_not_depend_on_the_rest_of_its_batch(
  initial, batch, embed_audio
):
  rows = batch['waveform'][:, 0]
  np.testing.assert_allclose(
    embed_audio(*initial, rows[:2]), embed_audio(*initial, rows)[:2], atol=1e-5
  )


@pytest.mark.parametrize(('seconds', 'count'), [(4, 1), (10, 3), (30, 9)])
def test_ten_seconds_are_three_windows(seconds, count):
  task = MelodyTask(MelodyEmbedder(MelodyViT(num_layers=1)))
  params = jax.eval_shape(
    task.init, jax.random.key(0), {'waveform': jnp.zeros((2, 2, 96_000))}
  )
  found = jax.eval_shape(
    task.melody.embed_audio, *nn.unbox(params), jnp.zeros((5, seconds * 24_000))
  )
  assert found.shape == (5, count, 192)


def test_windows_of_a_clip_are_its_pieces(initial, batch, embed_audio):
  """Windows of 0.5 s every 0.375 s here: two in 21,000 samples."""
  clip = np.concatenate(
    [batch['waveform'][:2, 0], batch['waveform'][2:4, 1]], axis=1
  )[:, :21_500]
  found = embed_audio(*initial, clip)
  assert found.shape == (2, 2, 16) and found.dtype == jnp.float32
  for n, start in enumerate((0, 9_000)):
    one = embed_audio(*initial, clip[:, start : start + 12_000])
    np.testing.assert_allclose(found[:, n], one[:, 0], atol=1e-5)
  np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, atol=1e-5)


def test_many_windows_are_embedded_in_parts(
  task, initial, batch, embed_audio, monkeypatch
):
  clip = batch['waveform'][:3, 0]
  clip = np.concatenate([clip, clip[::-1]] * 2, axis=1)
  expected = embed_audio(*initial, clip)
  assert expected.shape[1] == 5
  monkeypatch.setattr(embedder, '_WINDOWS_AT_ONCE', 2)
  in_parts = jax.jit(lambda *inputs: task.melody.embed_audio(*inputs))
  np.testing.assert_allclose(in_parts(*initial, clip), expected, atol=1e-5)


def test_silence_has_a_finite_embedding_and_gradient(
  initial, batch, value_and_grad
):
  silent = {**batch, 'waveform': np.zeros_like(batch['waveform'])}
  (loss, _), gradient = value_and_grad(*initial, silent, jax.random.key(0), 0)
  assert np.isfinite(loss)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_parameters_at_paper_size_are_counted():
  """12 layers of 6 heads of 64, width 512, MLP 1024, 192 out (App. C)."""
  task = MelodyTask(MelodyEmbedder(MelodyViT()))
  params, collections = jax.eval_shape(
    task.init, jax.random.key(0), {'waveform': jnp.zeros((1, 2, 96_000))}
  )
  count = sum(leaf.size for leaf in jax.tree.leaves(nn.unbox(params)))
  attention = 4 * 512 * 384 + 3 * 384 + 512
  mlp = 2 * 512 * 1024 + 1024 + 512
  layers = 12 * (attention + mlp + 2 * 2 * 512) + 2 * 512
  ends = (128 * 512 + 512) + 200 * 512 + (512 * 192 + 192)
  assert count == layers + ends == 22_351_040
  assert jax.tree.leaves(collections) == []


def test_short_clips_and_other_crops_are_refused(task, initial, batch):
  with pytest.raises(UsageError, match=r'needs 0\.5 s'):
    task.melody.embed_audio(*initial, batch['waveform'][:, 0, :6_000])
  longer = {**batch, 'waveform': batch['waveform'][..., :11_000]}
  with pytest.raises(UsageError, match='crop_seconds'):
    task.evaluate(*initial, longer)
