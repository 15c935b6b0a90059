"""Sampling: cache, temperature, limits, keys, guidance."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_token_lms import STAGES, K, generate, made, make_batch

from musiclm_jax.contracts import sharding, tensor_file
from musiclm_jax.token_lm import decode
from musiclm_jax.token_lm import sampler as sampling
from musiclm_jax.token_lm.decoding_weights import abstract, prepare
from musiclm_jax.token_lm.sampler import Sampler


def sharpened(params):
  """Larger output rows, so that codes differ clearly in probability."""
  lm = params['lm']
  return {'lm': {**lm, 'output': lm['output'] * 4}}


def conditioning(batch_size=3, seed=0):
  batch = make_batch(batch_size, seed)
  return batch | {'acoustic': batch['acoustic'][..., :2]}


@functools.cache
def sampler(stage):
  task, params = made(stage)
  return Sampler(task.lm, sharpened(params))


def sample(stage, *, batch=None, keys=None, frames=None, **options):
  task, _ = made(stage)
  batch = conditioning() if batch is None else batch
  if keys is None:
    keys = jax.random.split(jax.random.key(0), len(batch['mulan']))
  names = {field.name for field in dataclasses.fields(decode.SamplingParams)}
  how = {name: options.pop(name) for name in names & options.keys()}
  return generate(
    sampler(stage),
    batch,
    num_frames=frames or task.lm.layout.predicted.num_frames,
    keys=keys,
    sampling=decode.SamplingParams(**how),
    **options,
  )


def forced_logits(stage, batch, codes, **options):
  """Teacher-forced logits of generated codes, [B, T, Q, K]."""
  task, params = made(stage)
  predicted = task.lm.layout.predicted
  if predicted.stream == 'acoustic':
    whole = [batch['acoustic'][..., : predicted.first_level], codes]
    rest = 6 - predicted.first_level - predicted.num_levels
    whole.append(np.zeros((*codes.shape[:2], rest), int))
    batch = batch | {'acoustic': jnp.concatenate(whole, axis=-1)}
  else:
    batch = batch | {'semantic': codes[..., 0]}
  logits = jax.jit(functools.partial(task.lm.logits, **options))(
    sharpened(params), {}, batch
  )
  return np.asarray(logits).reshape(*codes.shape, -1)


@pytest.mark.parametrize('stage', STAGES)
def test_cached_decoding_equals_teacher_forcing(stage):
  """Mistake 25: generation that does not feed back what it sampled."""
  codes = sample(stage, temperature=0.0)
  logits = forced_logits(stage, conditioning(), codes)
  chosen = np.take_along_axis(logits, codes[..., None], -1)[..., 0]
  np.testing.assert_allclose(chosen, logits.max(-1), atol=1e-4)


@pytest.mark.parametrize('stage', STAGES)
def test_samples_are_legal_and_of_the_right_shape(stage):
  """Mistake 24: ids outside of the level, sampled or indexed."""
  predicted = made(stage)[0].lm.layout.predicted
  codes = sample(stage, temperature=5.0)
  assert codes.shape == (3, predicted.num_frames, predicted.num_levels)
  assert codes.min() >= 0 and codes.max() < K
  assert len(np.unique(codes)) > K // 2


@pytest.mark.parametrize('size', [8, 2000])
def test_how_a_crop_is_cut_into_programs_changes_no_code(monkeypatch, size):
  """Mistake 37: another path in use than in training, with other results."""
  whole = sample('semantic')
  monkeypatch.setattr(sampling, '_STEP', size)
  monkeypatch.setattr(sampling, '_LEAST_PART', size)
  sampler.cache_clear()
  assert len(sampler('semantic')._reaches) == (2 if size == 8 else 1)
  np.testing.assert_array_equal(sample('semantic'), whole)
  sampler.cache_clear()


@pytest.mark.parametrize('scale', [1.0, 3.0])
def test_a_window_that_stops_goes_on_as_if_it_had_not(scale):
  whole = sample('coarse', guidance=scale)
  how = decode.SamplingParams(guidance=scale)
  window = sampler('coarse').begin(
    conditioning(),
    keys=jax.random.split(jax.random.key(0), 3),
    guided=scale != 1.0,
  )
  for frames in (1, 4, 4, 3, 10):  # also when there is nothing to do
    window = sampler('coarse').advance(window, frames, how)
    codes = sampler('coarse').codes(window)
    np.testing.assert_array_equal(codes, whole[:, : codes.shape[1]])
  assert codes.shape == whole.shape


def test_one_program_serves_every_length_and_temperature():
  """Another length compiled a stage anew, for as long as it then ran."""
  task, params = made('coarse')
  one = Sampler(task.lm, params)
  for frames, prefix in ((10, None), (3, None), (7, 2), (10, 5)):
    if prefix:
      prefix = np.zeros((3, prefix, 2), np.int32)
    codes = generate(
      one,
      conditioning(),
      num_frames=frames,
      keys=jax.random.split(jax.random.key(0), 3),
      sampling=decode.SamplingParams(temperature=frames / 10, top_k=frames),
      prefix=prefix,
    )
    assert codes.shape == (3, frames, 2)
  assert one._begin._cache_size() == one._advance._cache_size() == 1


def test_no_token_copies_the_cache():
  """A loop that does is correct, and half as fast."""
  one = sampler('coarse')
  keys = jax.random.split(jax.random.key(0), 3)
  window = one.begin(conditioning(), keys=keys)
  text = (
    one._advance.lower(
      one._params,
      sequence=window.sequence,
      stop=jnp.int32(window.length + 2),
      keys=window.keys,
      sampling=decode.SamplingParams(),
      reach=one._reaches[0],
    )
    .compile()
    .as_text()
  )
  computations = {
    part.split()[0].lstrip('%'): part
    for part in re.split(r'\n(?=%|ENTRY)', text)
  }
  names = re.findall(r'while\(.*body=%([\w.-]+)', text)
  body = max((computations[name] for name in names), key=len)
  assert ' dot(' in body, 'the loop over tokens'
  _, rows, heads, _, width = window.sequence.cache.keys.shape
  cache = f'f32[1,{rows},{heads},{one._reaches[0]},{width}]'
  assert cache in body
  copies = re.findall(r'= (\S+?)(?:{\S*})? copy\(', body)
  assert cache not in copies


def test_temperature_to_zero_equals_greedy():
  greedy = sample('coarse', temperature=0.0)
  np.testing.assert_array_equal(sample('coarse', temperature=1e-4), greedy)
  other_keys = jax.random.split(jax.random.key(9), 3)
  np.testing.assert_array_equal(
    sample('coarse', temperature=0.0, keys=other_keys), greedy
  )
  assert (sample('coarse', temperature=1.0, keys=other_keys) != greedy).any()


@pytest.mark.parametrize('stage', ['semantic', 'coarse'])
def test_a_prefix_is_kept_and_continued(stage):
  """Mistake 28: prompt tokens ignored, or their length counted twice."""
  whole = sample(stage, temperature=0.0)
  for length in (1, 3):
    again = sample(stage, temperature=0.0, prefix=whole[:, :length])
    np.testing.assert_array_equal(again, whole)
  foreign = (whole[:, :3] + 1) % K
  other = sample(stage, temperature=0.0, prefix=foreign)
  np.testing.assert_array_equal(other[:, :3], foreign)
  assert (other[:, 3:] != whole[:, 3:]).any()
  logits = forced_logits(stage, conditioning(), other)[:, 3:]
  np.testing.assert_array_equal(logits.argmax(-1), other[:, 3:])


def test_fewer_frames_are_the_beginning_of_more():
  """Mistake 35: the total length taken for the window's."""
  whole = sample('coarse')
  part = sample('coarse', frames=4)
  np.testing.assert_array_equal(part, whole[:, :4])
  with pytest.raises(ValueError, match='a crop has 10'):
    sample('coarse', frames=11)


def test_a_row_depends_on_its_key_and_not_on_its_company():
  batch = conditioning()
  keys = jax.random.split(jax.random.key(4), 3)
  whole = sample('semantic', batch=batch, keys=keys)
  order = np.array([2, 0, 1])
  mixed = sample(
    'semantic', batch={n: v[order] for n, v in batch.items()}, keys=keys[order]
  )
  np.testing.assert_array_equal(mixed, whole[order])
  alike = {n: jnp.stack([v[0]] * 3) for n, v in batch.items()}
  rows = sample('semantic', batch=alike, keys=keys)
  np.testing.assert_array_equal(rows[0], whole[0])
  assert (rows[1] != rows[0]).any()


def test_draws_have_the_softmaxs_frequencies():
  logits = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))
  count = 20_000
  keys = jax.random.split(jax.random.key(0), count)
  rows = jnp.broadcast_to(logits, (count, 4))

  def shares(**params):
    codes = jax.jit(decode.draw)(keys, rows, decode.SamplingParams(**params))
    return np.bincount(codes, minlength=4) / count

  plain = np.array([0.5, 0.3, 0.15, 0.05])
  np.testing.assert_allclose(shares(), plain, atol=0.015)
  cold = plain**2 / (plain**2).sum()
  np.testing.assert_allclose(shares(temperature=0.5), cold, atol=0.015)
  best = np.array([0.625, 0.375, 0, 0])
  np.testing.assert_allclose(shares(top_k=2), best, atol=0.015)
  np.testing.assert_allclose(shares(top_p=0.7), best, atol=0.015)
  np.testing.assert_allclose(shares(top_p=0.0), [1, 0, 0, 0], atol=0)
  np.testing.assert_allclose(shares(top_k=9, top_p=1.0), plain, atol=0.015)


def test_defaults_are_plain_sampling():
  """Mistake 38: top-k and guidance by default, which no paper has."""
  plain = decode.SamplingParams()
  assert plain.top_k is None and plain.top_p is None
  assert plain.temperature == plain.guidance == 1.0


def test_guidance_mixes_with_the_unconditional_model():
  scale = 3.0
  codes = sample('semantic', temperature=0.0, guidance=scale)
  with_all = forced_logits('semantic', conditioning(), codes)
  with_none = forced_logits(
    'semantic', conditioning(), codes, num_mulan_levels=0
  )
  mixed = with_none + scale * (with_all - with_none)
  chosen = np.take_along_axis(mixed, codes[..., None], -1)[..., 0]
  np.testing.assert_allclose(chosen, mixed.max(-1), atol=1e-3)


def test_dropped_mulan_levels_are_not_used_in_sampling():
  batch, other = conditioning(), conditioning(seed=1)
  deep = batch['mulan'].at[:, 2:].set(other['mulan'][:, 2:])
  one = sample('semantic', batch=batch, num_mulan_levels=2)
  two = sample('semantic', batch=batch | {'mulan': deep}, num_mulan_levels=2)
  np.testing.assert_array_equal(one, two)


def test_kernels_in_int8_are_those_of_a_file_in_int8():
  task, params = made('coarse')
  layers = params['lm']['transformer']['layers']
  kernels = {'params/narrow': layers['mlp']['narrow']['kernel']}
  (stored,) = tensor_file.decode(tensor_file.encode(kernels, 'int8')).values()
  held = prepare(task.lm, params, weights='int8')
  for number in range(2):
    layer = held['transformer'][f'layers_{number}']['mlp']['narrow']['kernel']
    assert layer.values.dtype == jnp.int8
    np.testing.assert_array_equal(layer.astype('float32'), stored[number])
  whole = [x for x in jax.tree.leaves(held) if x.dtype == jnp.int8]
  kernels = [x['kernel'] for x in layers['mlp'].values()]
  kernels += [x['kernel'] for x in layers['attention'].values()]
  assert sum(x.size for x in whole) == sum(x.size for x in kernels)


@pytest.mark.parametrize('weights', ['bfloat16', 'int8'])
def test_weights_of_fewer_bits_err_by_their_rounding(weights):
  """They and what they multiply are rounded; sums are not."""
  task, params = made('coarse')
  batch = conditioning()
  codes = sample('coarse')
  whole = [batch['acoustic'], codes, np.zeros((3, 10, 2), int)]
  batch = batch | {'acoustic': jnp.concatenate(whole, axis=-1)}
  exact, rounded = (
    np.asarray(
      task.lm.logits({'lm': prepare(task.lm, params, None, w)}, {}, batch)
    )
    for w in ('float32', weights)
  )
  error = np.sqrt(np.mean((rounded - exact) ** 2)) / exact.std()
  assert 1e-4 < error < (0.01 if weights == 'bfloat16' else 0.05)


def test_a_bfloat16_cache_errs_by_its_rounding():
  """Every token drawn by it, against teacher forcing in float32."""
  task, params = made('coarse')
  params = sharpened(params)
  lm, layout = task.lm.model, task.lm.layout
  exact = task.lm.logits(params, {}, make_batch()).reshape(3, -1, K)
  ids = task.lm.tokens(make_batch())
  rounding = lm.clone(transformer=lm.transformer.clone(dtype=jnp.bfloat16))
  variables = {'params': prepare(task.lm, params)}

  @jax.jit
  def step(cache, position, last):
    hidden, cache = rounding.apply(
      variables, last[:, None], start=position, cache=cache, method='hidden'
    )
    level = (position + 1 - layout.num_conditioning) % 2
    logits = rounding.apply(
      variables, hidden[:, 0], level, method='level_logits'
    )
    return cache, logits

  cache = rounding.transformer.empty_cache(3, layout.num_tokens)
  cache, found = cache.split(layout.num_tokens), []
  assert cache[0].keys.dtype == jnp.bfloat16
  for position in range(layout.num_tokens - 1):
    cache, logits = step(cache, position, ids[:, position])
    found.append(logits)
  rounded = np.stack(found[layout.num_conditioning - 1 :], axis=1)
  exact = np.asarray(exact)
  error = np.sqrt(np.mean((rounded - exact) ** 2)) / exact.std()
  assert 1e-4 < error < 0.02


@pytest.mark.parametrize('weights', ['float32', 'bfloat16'])
def test_weights_that_are_not_there_have_the_shapes_of_those_that_are(weights):
  task, params = made('coarse')
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  planned = abstract(task.lm, mesh, weights)
  held = prepare(task.lm, params, mesh, weights)
  assert jax.tree.structure(planned) == jax.tree.structure(held)
  for ours, theirs in zip(*map(jax.tree.leaves, (planned, held)), strict=True):
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
