"""Token LMs of the three stages at a size that tests can afford."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from musiclm_jax.token_lm.language_model import LanguageModel
from musiclm_jax.token_lm.layout import make_layout
from musiclm_jax.token_lm.model import make_lm
from musiclm_jax.token_lm.task import TokenLMTask

STAGES = ('semantic', 'coarse', 'fine')
K = 16


def make_task(stage, *, dropout_rate=0.0, semantic_mask=False, **options):
  layout = make_layout(
    stage,
    crop_seconds=0.2,
    mulan_levels=12,
    mulan_codebook_size=8,
    semantic_codebook_size=K,
    semantic_frame_rate=25.0,
    acoustic_levels=6,
    acoustic_codebook_size=K,
    acoustic_frame_rate=50.0,
    coarse_levels=2,
    semantic_mask=semantic_mask,
  )
  lm = make_lm(
    layout,
    time_buckets=6,
    time_peak=2.0,
    num_layers=2,
    embed_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=64,
    relative_buckets=16,
    relative_max_distance=layout.num_tokens,
    dropout_rate=dropout_rate,
  )
  return TokenLMTask(LanguageModel(lm), **options)


def make_batch(batch_size=3, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'mulan': jnp.asarray(rng.integers(0, 8, (batch_size, 12)), jnp.int32),
    'semantic': jnp.asarray(rng.integers(0, K, (batch_size, 5)), jnp.int32),
    'acoustic': jnp.asarray(rng.integers(0, K, (batch_size, 10, 6)), jnp.int32),
  }


@functools.cache
def made(stage, **options):
  task = make_task(stage, **options)
  params, collections = jax.jit(task.init)(jax.random.key(0), make_batch())
  assert collections == {}
  return task, nn.unbox(params)


def generate(sampler, conditioning, *, num_frames, keys, sampling, **given):
  """The codes of whole windows, drawn at once."""
  guided = sampling.guidance != 1.0
  window = sampler.begin(conditioning, keys=keys, guided=guided, **given)
  return sampler.codes(sampler.advance(window, num_frames, sampling))
