"""A parallel LM at a size that tests can afford, and one that knows a batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from musiclm_jax.parallel_lm.decoder import ParallelDecoder
from musiclm_jax.parallel_lm.model import make_parallel_lm
from musiclm_jax.parallel_lm.task import ParallelTask
from musiclm_jax.token_lm.layout import make_layout

K, Q, T, B = 16, 3, 10, 4


def make_task(*, iterations=(4,), semantic_mask=False, **options):
  layout = make_layout(
    'parallel',
    crop_seconds=T / 50,
    mulan_levels=12,
    mulan_codebook_size=8,
    semantic_codebook_size=K,
    semantic_frame_rate=25.0,
    acoustic_levels=Q,
    acoustic_codebook_size=K,
    acoustic_frame_rate=50.0,
    coarse_levels=1,
    semantic_mask=semantic_mask,
  )
  model = make_parallel_lm(
    layout,
    num_layers=2,
    embed_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=64,
    relative_buckets=16,
  )
  return ParallelTask(ParallelDecoder(model, iterations), **options)


def make_batch(rows=B, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'mulan': jnp.asarray(rng.integers(0, 8, (rows, 12)), jnp.int32),
    'semantic': jnp.asarray(rng.integers(0, K, (rows, T // 2)), jnp.int32),
    'acoustic': jnp.asarray(rng.integers(0, K, (rows, T, Q)), jnp.int32),
  }


@functools.cache
def made(**options):
  task = make_task(**options)
  params, collections = jax.jit(task.init)(jax.random.key(0), make_batch())
  assert collections == {}
  return task, nn.unbox(params)


@functools.cache
def memorised():
  """A task, what it knows of `make_batch()`, and its losses on the way."""
  task, params = made()
  # Each example under several masks a step.
  batch = jax.tree.map(lambda x: jnp.concatenate([x] * 4), make_batch())
  optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, 400))

  @jax.jit
  def run(params):
    def step(carry, rng):
      params, state = carry
      (loss, _), gradients = jax.value_and_grad(
        lambda p: task.losses()['lm'](p, {}, batch, rng, 0), has_aux=True
      )(params)
      updates, state = optimizer.update(gradients, state)
      return (optax.apply_updates(params, updates), state), loss

    keys = jax.random.split(jax.random.key(1), 400)
    (params, _), losses = jax.lax.scan(
      step, (params, optimizer.init(params)), keys
    )
    return params, losses

  return task, *run(params)
