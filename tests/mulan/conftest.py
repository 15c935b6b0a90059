"""A tiny MuLan with windows of half a second, and pairs that it can learn."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.mulan.embedder import MulanEmbedder
from musiclm_jax.mulan.model import make_mulan
from musiclm_jax.mulan.task import MulanTask

MODEL = {
  'audio_tower': 'resnet',
  'audio': {'width': 4, 'stage_blocks': (1, 1)},
  'text': {
    'vocab_size': 40,
    'max_length': 8,
    'num_layers': 1,
    'embed_dim': 16,
    'num_heads': 2,
    'mlp_dim': 32,
  },
  'embed_dim': 16,
  'num_mels': 32,
}
PAIRS = 8


@pytest.fixture(scope='session')
def batch():
  """Chords of three notes, and texts that name them."""
  rng = np.random.default_rng(0)
  time = np.arange(12_000) / 24_000
  notes = rng.permuted(np.tile(np.arange(30), (PAIRS, 1)), axis=1)[:, :3]
  tones = np.sin(2 * np.pi * 150 * 2 ** (notes[..., None] / 6) * time)
  waveform = 0.1 * tones.sum(axis=1) + 1e-3 * rng.normal(size=(PAIRS, 12_000))
  text_ids = np.zeros((PAIRS, 8), np.int32)
  text_ids[:, 0], text_ids[:, 1:4], text_ids[:, 4] = 2, notes + 5, 3
  return {
    'waveform': waveform.astype(np.float32),
    'text_ids': text_ids[:, None],
    'group': np.arange(PAIRS, dtype=np.int32),
  }


@pytest.fixture(scope='session')
def task():
  return MulanTask(MulanEmbedder(make_mulan(**MODEL), 0.5, 0.1))


@pytest.fixture(scope='session')
def initial(task, batch):
  """Parameters and collections, unboxed."""
  return nn.unbox(jax.jit(task.init)(jax.random.key(0), batch))


@pytest.fixture(scope='session')
def embed_audio(task):
  return jax.jit(task.mulan.embed_audio)


@pytest.fixture(scope='session')
def embed_text(task):
  return jax.jit(task.mulan.embed_text)
