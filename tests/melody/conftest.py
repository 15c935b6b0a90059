"""A tiny melody network with windows of half a second, and pairs to learn."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.melody.embedder import MelodyEmbedder
from musiclm_jax.melody.model import MelodyViT
from musiclm_jax.melody.task import MelodyTask

PAIRS = 6


@pytest.fixture(scope='session')
def batch():
  """Two notes that follow each other, dull, and bright an octave higher."""
  rng = np.random.default_rng(0)
  time = np.arange(12_000) / 24_000
  places = rng.permutation(30)[:PAIRS]
  hertz = 200 * 2 ** (np.stack(np.divmod(places, 6)) / 6)  # [2, B]
  tone = np.where(time < 0.25, hertz[0][:, None], hertz[1][:, None]) * time
  tones = [np.sin(2 * np.pi * k * tone) for k in range(1, 5)]
  dull, octave_up = tones[0] + 0.1 * tones[1], tones[1] + tones[3]
  waveform = 0.1 * np.stack([dull, octave_up], axis=1)
  waveform += 1e-3 * rng.normal(size=waveform.shape)
  return {
    'waveform': waveform.astype(np.float32),
    'group': np.arange(PAIRS, dtype=np.int32),
  }


@pytest.fixture(scope='session')
def task():
  model = MelodyViT(
    num_layers=1,
    embed_dim=32,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    output_dim=16,
    num_mels=48,
    window_length=1600,
    hop_length=800,
    fft_size=2048,
  )
  return MelodyTask(MelodyEmbedder(model, 0.5, 0.375))


@pytest.fixture(scope='session')
def initial(task, batch):
  """Parameters and collections, unboxed."""
  return nn.unbox(jax.jit(task.init)(jax.random.key(0), batch))


@pytest.fixture(scope='session')
def embed_audio(task):
  return jax.jit(task.melody.embed_audio)


@pytest.fixture(scope='session')
def value_and_grad(task):
  """((loss, (collections, metrics)), gradient) of the game's arguments."""
  return jax.jit(jax.value_and_grad(task.losses()['melody'], has_aux=True))
