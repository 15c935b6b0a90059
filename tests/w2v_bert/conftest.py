"""A tiny w2v-BERT and audio that it can tell apart."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.w2v_bert.features import SemanticFeatures
from musiclm_jax.w2v_bert.model import W2vBert
from musiclm_jax.w2v_bert.task import W2vBertTask

MODEL = {
  'embed_dim': 32,
  'num_heads': 2,
  'mlp_dim': 64,
  'contrastive_blocks': 1,
  'masked_blocks': 3,
  'codebook_size': 16,
  'code_dim': 16,
  'conv_channels': (8, 4),
}


@pytest.fixture(scope='session')
def waveform():
  """Notes that change every 120 ms, [4, 48000] at 24 kHz."""
  rng = np.random.default_rng(0)
  time = np.arange(2880) / 24_000
  notes = 110 * 2 ** (rng.integers(0, 48, (4, 17, 1)) / 12)
  tones = 0.3 * np.sin(2 * np.pi * notes * time) * np.exp(-5 * time)
  tones = tones.reshape(4, -1)[:, :48_000]
  return (tones + 1e-3 * rng.normal(size=tones.shape)).astype(np.float32)


@pytest.fixture(scope='session')
def task():
  return W2vBertTask(
    SemanticFeatures(W2vBert(**MODEL)),
    total_steps=120,
    mask_span=4,
    num_distractors=20,
    contrastive_only=0.05,
  )


@pytest.fixture(scope='session')
def initial(task, waveform):
  """(params, collections) of `task`, unboxed."""
  made = jax.jit(task.init)(jax.random.key(0), {'waveform': waveform})
  return nn.unbox(made)
