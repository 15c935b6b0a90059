"""Tokens of a frame where the attention is limited: how far they depend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax import stages
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.w2v_bert import features as applied
from musiclm_jax.w2v_bert.features import SemanticCodebook, SemanticFeatures
from musiclm_jax.w2v_bert.frontend import add_frames, init_statistics
from musiclm_jax.w2v_bert.task import W2vBertTask

FRAME = 960
# 3 blocks of 5 + 2 frames, and one of the subsampling.
REACH, CONTEXT = 0.2, 22


@pytest.fixture(scope='module')
def music():
  """Notes of all lengths, at a level that rises: [1, S], 30 s."""
  rng = np.random.default_rng(1)
  notes = []
  for _ in range(150):
    time = np.arange(rng.integers(2_000, 12_000)) / 24_000
    pitch = 110 * 2 ** (rng.integers(0, 48) / 12)
    notes.append(np.sin(2 * np.pi * pitch * time) * np.exp(-5 * time))
  waveform = np.concatenate(notes)[: 750 * FRAME]
  assert len(waveform) == 750 * FRAME
  waveform *= np.linspace(0.01, 0.5, len(waveform))
  waveform += 1e-3 * rng.normal(size=len(waveform))
  return waveform[None].astype(np.float32)


@pytest.fixture(scope='module')
def networks(task, music):
  """Attention in seconds -> a network and its weights, for all the same."""
  limited = SemanticFeatures(task.semantic.model.clone(attention_seconds=REACH))
  shapes = W2vBertTask(limited, total_steps=1)
  variables = nn.unbox(
    jax.jit(shapes.init)(jax.random.key(0), {'waveform': music[:, :48_000]})
  )
  # Sharp attention, as of a trained network: that of random weights is even.
  for module in ('contrastive', 'masked_prediction'):
    attention = variables[0]['w2v_bert'][module]['blocks']['attention']
    attention['query']['kernel'] *= 4.0
  return {REACH: (limited, variables), None: (task.semantic, variables)}


def compiled(network, variables):
  """Waveform -> features."""
  return jax.jit(lambda waveform: network.features(*variables, waveform))


def shares(features, music):
  """Equal tokens of 10 s alone and inside 30 s: of all, and frame by frame."""
  whole = features(music)
  rng = np.random.default_rng(2)
  book = {
    'statistics': add_frames(init_statistics(whole.shape[-1]), whole),
    'centroids': None,
  }
  centred = (whole[0] - book['statistics']['mean']) / jnp.sqrt(
    book['statistics']['variance'] + 1e-5
  )
  book['centroids'] = centred[rng.choice(750, 64, replace=False)]
  codebook = SemanticCodebook(64)
  # Not where the blocks of 30 s begin.
  start = 253
  alone = features(music[:, start * FRAME : (start + 250) * FRAME])
  one, other = (
    np.asarray(codebook.assign({'kmeans': book}, x))[0, :, 0]
    for x in (alone, whole[:, start : start + 250])
  )
  assert len(np.unique(one)) > 16
  return one == other


def test_any_length_gives_the_same_tokens_away_from_its_edges(networks, music):
  network, _ = networks[REACH]
  assert network.context_frames == CONTEXT
  equal = shares(compiled(*networks[REACH]), music)
  assert equal.mean() >= 0.95
  assert equal[CONTEXT:-CONTEXT].mean() >= 0.995  # ties, to rounding
  everywhere, _ = networks[None]
  assert everywhere.context_frames is None
  equal = shares(compiled(*networks[None]), music)
  assert equal[CONTEXT:-CONTEXT].mean() < 0.95


def test_a_frame_sees_its_context_and_no_further(networks, music):
  network, _ = networks[REACH]
  features = compiled(*networks[REACH])
  clip = music[:, : 120 * FRAME]
  middle = 60
  other = clip.copy()
  other[:, middle * FRAME : (middle + 1) * FRAME] = 0.5 * np.random.default_rng(
    3
  ).normal(size=FRAME)
  moved = np.abs(features(clip) - features(other)).max(axis=(0, 2))
  distance = np.abs(np.arange(120) - middle)
  assert moved[distance > network.context_frames].max() == 0.0
  # One less on either side: the subsampling's frame is rounded up.
  assert (moved[distance < network.context_frames] > 0.0).all()


@pytest.mark.parametrize('frames', [129, 297])
def test_windows_have_the_features_of_the_whole(
  networks, music, monkeypatch, frames
):
  """Windows of 128 frames every 84, the last one moved back."""
  network, _ = networks[REACH]
  clip = np.concatenate([music[:, : frames * FRAME], music[:, :500]], axis=1)
  expected = compiled(*networks[REACH])(clip)
  monkeypatch.setattr(applied, '_WINDOW_FRAMES', 128)
  traced = []
  whole = SemanticFeatures._whole

  def count(self, params, collections, waveform):
    traced.append(waveform.shape)
    return whole(self, params, collections, waveform)

  monkeypatch.setattr(SemanticFeatures, '_whole', count)
  found = compiled(*networks[REACH])(clip)
  assert set(traced) == {(1, 128 * FRAME)}
  assert found.shape == expected.shape == (1, frames, network.model.embed_dim)
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_less_than_a_frame_is_no_attention(task):
  model = task.semantic.model
  assert model.clone(attention_seconds=0.04).attention_frames == 1
  with pytest.raises(UsageError, match=r'attention_seconds=0\.01: .* 0\.04'):
    _ = model.clone(attention_seconds=0.01).attention_frames


def test_a_config_stored_without_the_key_sees_everything():
  config = {
    'stage': 'w2v_bert',
    'model': {
      'embed_dim': 8,
      'num_heads': 2,
      'mlp_dim': 8,
      'contrastive_blocks': 1,
      'masked_blocks': 1,
      'codebook_size': 8,
      'code_dim': 8,
    },
  }
  network = stages.build_inference(config)
  assert network.model.attention_frames is None
