"""FLOPs of a step, by its jaxpr against closed forms."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from musiclm_jax import stages
from musiclm_jax.training.flops import model_flops, program_flops

CONFIGS = Path(__file__).parents[2] / 'configs'
B = 3


def of_lm(stage, size='tiny', **model):
  """Model FLOPs of a language model, its config and its layout."""
  config = runpy.run_path(CONFIGS / f'{stage}.py')['get_config'](size)
  config.model.update(model)
  task = stages.build(config)
  frames = round(25 * config.data.crop_seconds)
  batch = {
    name: jax.ShapeDtypeStruct((B, *shape), jnp.int32)
    for name, shape in {
      'mulan': (12,),
      'semantic': (frames,),
      'acoustic': (2 * frames, 12),
    }.items()
  }
  params, _ = nn.unbox(jax.eval_shape(task.init, jax.random.key(0), batch))
  return model_flops(task, params, {}, batch), config, task.lm.layout


@pytest.mark.parametrize('stage', ['semantic', 'coarse', 'fine'])
def test_a_language_model_needs_six_flops_a_weight_and_legal_pairs(stage):
  found, config, layout = of_lm(stage, 'paper')
  m = config.model
  length = layout.num_tokens - 1
  predicted = layout.predicted
  kernels = m.num_layers * (
    4 * m.embed_dim * m.num_heads * m.head_dim + 3 * m.embed_dim * m.mlp_dim
  )
  logits = predicted.num_frames * predicted.num_levels
  logits *= predicted.codebook_size * m.embed_dim
  pairs = length * (length + 1) // 2
  attention = m.num_layers * m.num_heads * m.head_dim * pairs
  assert found == B * (6 * (length * kernels + logits) + 12 * attention)


def test_blocks_remat_and_unrolling_change_no_model_flops():
  plain, *_ = of_lm('coarse', remat='none', scan_unroll=1)
  other, *_ = of_lm('coarse', remat='full', scan_unroll=2)
  assert plain == other


class Game:
  """A linear forger of two layers and a linear critic of two layers."""

  def losses(self):
    def fake(params, batch):
      x = batch['x'] @ params['forger']['a']
      return x @ params['forger']['b']

    def critic(params, x):
      return (x @ params['critic']['c']) @ params['critic']['d']

    def forger(params, collections, batch, rng, step):
      return critic(params, fake(params, batch)).sum(), ({}, {})

    def critic_loss(params, collections, batch, rng, step):
      forged = jax.lax.stop_gradient(fake(params, batch))
      both = critic(params, batch['y']) - critic(params, forged)
      return both.sum(), ({}, {})

    return {'forger': forger, 'critic': critic_loss}


def test_players_share_a_forward_pass_and_need_only_their_own_gradients():
  def array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)

  params = {
    'forger': {'a': array(5, 7), 'b': array(7, 11)},
    'critic': {'c': array(11, 13), 'd': array(13, 1)},
  }
  batch = {'x': array(B, 5), 'y': array(B, 11)}
  a, b, c, d = 5 * 7, 7 * 11, 11 * 13, 13
  forward = a + b + 2 * (c + d)  # the critic reads what is real and what is not
  # The first kernel of all wants no gradient of its input, the critic's forged
  # and real inputs are given, and the forger moves no kernel of the critic.
  forger = a + 2 * b + c + d
  critic = 2 * (c + 2 * d)
  found = model_flops(Game(), params, {}, batch)
  assert found == 2 * B * (forward + forger + critic)


def test_scans_count_their_steps_and_branches_their_cheapest():
  w = jnp.ones((4, 4))

  def function(x):
    def body(x, _):
      return jax.checkpoint(jnp.dot)(x, w), None

    x, _ = jax.lax.scan(body, x, length=9)
    return jax.lax.cond(
      x[0, 0] > 0, lambda: x @ w, lambda: (x @ w) @ (w @ w)
    ) + jax.lax.cond(x[0, 0] > 0, lambda: x, lambda: w.T @ x)

  assert program_flops(function, w) == (9 + 1 + 1) * 2 * 4**3


def test_of_the_ways_of_platforms_the_given_ones_counts():
  w = jnp.ones((4, 4))

  def function(x):
    ways = {'tpu': lambda x: x @ w, 'default': lambda x: x + w}
    return jax.lax.platform_dependent(x, **ways)

  assert program_flops(function, w, platform='tpu') == 2 * 4**3
  assert program_flops(function, w, platform='cpu') == 0
  assert program_flops(function, w) == 0


def test_a_recomputed_product_is_in_the_program_and_not_in_the_model():
  w = jnp.ones((4, 4))

  @jax.checkpoint
  def square(x):
    return jnp.tanh(x @ w) @ w

  # Forward 2, recomputed 1 (the last product is not needed), backward 2.
  found = program_flops(jax.grad(lambda x: square(x).sum()), w)
  assert found in ((2 + 1 + 2) * 2 * 4**3, (2 + 2 + 2) * 2 * 4**3)


def test_convolutions_leave_out_padding_and_the_zeros_of_strides():
  x, kernel = jnp.ones((2, 10, 3)), jnp.ones((4, 3, 5))

  def convolve(x, kernel, **options):
    numbers = ('NTC', 'TIO', 'NTC')
    return jax.lax.conv_general_dilated(
      x, kernel, dimension_numbers=numbers, **options
    )

  plain = program_flops(
    lambda x, k: convolve(x, k, window_strides=(1,), padding=[(3, 0)]),
    x,
    kernel,
  )
  assert plain == 2 * 2 * 3 * 5 * (10 * 4 - (3 + 2 + 1))
  widened = program_flops(
    lambda x, k: convolve(
      x, k, window_strides=(1,), padding=[(0, 0)], lhs_dilation=(2,)
    ),
    x,
    kernel,
  )
  # Each of 16 outputs sees two inputs of four taps.
  assert widened == 2 * 2 * 3 * 5 * 16 * 2


def test_exact_float32_products_cost_six_passes_of_a_bfloat16_unit():
  w = jnp.ones((4, 4))
  exact = program_flops(lambda x: jnp.dot(x, x, precision='highest'), w)
  assert exact == 6 * program_flops(lambda x: jnp.dot(x, x), w)
