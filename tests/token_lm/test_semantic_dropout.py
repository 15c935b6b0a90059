"""A coarse LM that has learned to do without its semantic tokens."""

import jax
import jax.numpy as jnp
import numpy as np
from small_token_lms import generate, made, make_batch, make_task

from musiclm_jax import stages
from musiclm_jax.configs import coarse
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.language_model import without_semantic
from musiclm_jax.token_lm.sampler import Sampler


def test_only_an_lm_that_drops_semantic_tokens_has_their_mask():
  plain, drops = (made('coarse', semantic_mask=m)[0] for m in (False, True))
  layouts = plain.lm.layout, drops.lm.layout
  assert layouts[1].dropped == ['mulan', 'semantic']
  assert layouts[1].vocabulary_size == layouts[0].vocabulary_size + 1
  for stream in layouts[0].dropped:
    assert layouts[0].mask_id(stream) == layouts[1].mask_id(stream)
  for stage in ('semantic', 'fine'):
    one, two = (make_task(stage, semantic_mask=m) for m in (False, True))
    assert one.lm.layout.vocabulary_size == two.lm.layout.vocabulary_size
  config = coarse.get_config('tiny').to_dict()
  assert 'semantic' not in stages.build(config).lm.layout.dropped
  del config['loss']['no_semantic_probability']  # as it was stored before
  assert 'semantic' not in stages.build_inference(config).layout.dropped
  small = coarse.get_config('small').to_dict()
  assert 'semantic' in stages.build_inference(small).layout.dropped


def test_a_share_of_the_examples_reads_neither_prompt_nor_semantic_tokens():
  task, params = made('coarse', semantic_mask=True)
  batch, other = make_batch(64), make_batch(64, seed=1)
  always = make_task('coarse', semantic_mask=True, no_semantic_probability=1.0)
  loss = jax.jit(always.losses()['lm'])
  key, step = jax.random.key(0), jnp.int32(0)
  found = {
    name: float(loss(params, {}, batch | {name: other[name]}, key, step)[0])
    for name in ('mulan', 'semantic', 'acoustic')
  }
  own = float(loss(params, {}, batch, key, step)[0])
  assert found['mulan'] == found['semantic'] == own != found['acoustic']
  never = float(jax.jit(task.losses()['lm'])(params, {}, batch, key, step)[0])
  assert never != own
  tokens = np.asarray(task.lm.tokens(without_semantic(batch)))
  layout = task.lm.layout
  at = slice(layout.mulan.num_tokens, layout.num_conditioning)
  assert (tokens[:, at] == layout.mask_id('semantic')).all()


def test_guidance_pushes_towards_the_semantic_tokens():
  task, params = made('coarse', semantic_mask=True)
  batch, scale = make_batch(), 4.0
  sampler = Sampler(task.lm, params)
  for levels in (None, 0):  # also where no prompt is read
    codes = generate(
      sampler,
      {name: batch[name] for name in ('mulan', 'semantic')},
      num_frames=4,
      keys=jax.random.split(jax.random.key(0), 3),
      sampling=SamplingParams(temperature=0.0, guidance=scale),
      num_mulan_levels=levels,
    )
    rest = np.zeros((3, 6, 2), int)
    whole = np.concatenate([np.concatenate([codes, rest], 1)] * 3, 2)
    forced = batch | {'acoustic': jnp.asarray(whole)}
    logits = jax.jit(task.lm.logits)
    told = logits(params, {}, forced, 12 if levels is None else levels)
    free = logits(params, {}, without_semantic(forced), 0)
    mixed = np.asarray(free + scale * (told - free)).reshape(3, 10, 2, -1)
    mixed = mixed[:, :4]
    chosen = np.take_along_axis(mixed, codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, mixed.max(-1), atol=1e-3)
