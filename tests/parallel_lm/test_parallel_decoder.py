"""Decoding in parallel: rounds, prefixes, rows apart, guidance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_parallel_lm import B, K, Q, T, made, make_batch, memorised

from musiclm_jax.parallel_lm.sampler import ParallelSampler
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.training.flops import program_flops


@functools.cache
def compiled(iterations=(4,)):
  task, _ = made(iterations=iterations)
  return task.decoder, jax.jit(task.decoder.decode)


def nothing(rows=B):
  return jnp.full((rows, T, Q), -1)


def decode(
  params=None, *, batch=None, known=None, keys=None, guided=False, **how
):
  decoder, run = compiled()
  batch = make_batch() if batch is None else batch
  rows = len(batch['mulan'])
  read = decoder.conditioning(batch, guided=guided)
  return np.asarray(
    run(
      made()[1] if params is None else params,
      read,
      nothing(rows) if known is None else known,
      jax.random.split(jax.random.key(0), rows) if keys is None else keys,
      SamplingParams(**how),
    )
  )


def test_codes_are_legal_and_all_there():
  codes = decode(temperature=5.0)
  assert codes.shape == (B, T, Q) and codes.dtype == np.int32
  assert codes.min() >= 0 and codes.max() < K
  # The first level is drawn, at this temperature of all codes.
  keys = jax.random.split(jax.random.key(1), 4 * B)
  more = decode(batch=make_batch(4 * B), keys=keys, temperature=5.0)
  assert len(np.unique(more[:, :, 0])) == K


def test_what_is_known_by_heart_is_decoded():
  _, params, _ = memorised()
  batch = make_batch()
  codes = decode(params, temperature=0.0)
  np.testing.assert_array_equal(codes, batch['acoustic'])


def test_a_known_beginning_stays_and_is_read():
  acoustic = make_batch(seed=3)['acoustic']
  known = nothing().at[:, :4].set(acoustic[:, :4])
  codes = decode(known=known)
  np.testing.assert_array_equal(codes[:, :4], acoustic[:, :4])
  plain = decode()
  assert (codes[:, 4:] != plain[:, 4:]).any()
  whole = decode(known=acoustic)
  np.testing.assert_array_equal(whole, acoustic)


def test_a_row_depends_on_its_key_and_not_on_its_company():
  batch = make_batch()
  keys = jax.random.split(jax.random.key(0), B)
  all_rows = decode()
  one = decode(
    batch={name: rows[2:] for name, rows in batch.items()}, keys=keys[2:]
  )
  np.testing.assert_array_equal(one, all_rows[2:])
  other = decode(keys=jax.random.split(jax.random.key(1), B))
  assert (other != all_rows).any(axis=(1, 2)).all()
  same = decode(
    batch={name: rows[:1].repeat(2, 0) for name, rows in batch.items()},
    keys=keys[jnp.asarray([0, 0])],
  )
  np.testing.assert_array_equal(same[0], same[1])


@pytest.mark.parametrize('iterations', [(1,), (4,), (3, 2), (2, 2, 5, 9)])
def test_there_is_one_pass_a_round(iterations):
  decoder, _ = compiled(iterations)
  params, known = made(iterations=iterations)[1], nothing()
  read = decoder.conditioning(make_batch())
  keys = jax.random.split(jax.random.key(0), B)
  whole = program_flops(
    decoder.decode, params, read, known, keys, SamplingParams()
  )
  one = program_flops(
    lambda *given: decoder.logits(*given, 0), params, read, known
  )
  rounds = [*iterations, 1, 1, 1][:Q]
  assert decoder.rounds == tuple(rounds)
  assert whole == sum(rounds) * one


def test_rounds_keep_what_the_model_is_surest_of():
  """Of a level's codes a cosine's share is left after each round."""
  decoder, _ = compiled()
  left = []

  class Spy(type(decoder)):
    def logits(self, params, conditioning, codes, level, **options):
      jax.debug.callback(
        lambda c, q: left.append((int(q), (c[:, :, q] < 0).sum(1).tolist())),
        codes,
        level,
        ordered=True,
      )
      return super().logits(params, conditioning, codes, level, **options)

  spy = Spy(decoder.model, decoder.iterations)
  read = decoder.conditioning(make_batch())
  keys = jax.random.split(jax.random.key(0), B)
  known = nothing().at[0, :6].set(3)
  codes = jax.jit(spy.decode)(made()[1], read, known, keys, SamplingParams())
  jax.block_until_ready(codes)
  jax.effects_barrier()
  expected = [
    (0, [int(np.cos(i / 4 * np.pi / 2) * n) for n in (4, T, T, T)])
    for i in range(4)
  ]
  assert left == [*expected, (1, [4, T, T, T]), (2, [4, T, T, T])]


def test_the_last_round_of_a_level_takes_the_likeliest_codes():
  """So levels of one round have no temperature."""
  decoder, _ = compiled()
  params, read = made()[1], decoder.conditioning(make_batch())
  codes = decode(temperature=5.0)
  assert (codes != decode(temperature=0.0))[:, :, 0].any()
  for level in range(1, Q):
    known = jnp.where(jnp.arange(Q) < level, codes, -1)
    likeliest = decoder.logits(params, read, known, level).argmax(axis=2)
    np.testing.assert_array_equal(codes[:, :, level], likeliest)
  # All of it where there is one round, whatever is drawn.
  _, run = compiled((1,))
  one, other = (
    run(params, read, nothing(), jax.random.split(key, B), SamplingParams(t))
    for key, t in ((jax.random.key(0), 0.0), (jax.random.key(1), 5.0))
  )
  np.testing.assert_array_equal(one, other)


def test_guidance_pushes_away_from_the_neighbouring_rows():
  """Scale 0 is what the unconditional rows say, 1 what the own ones do."""
  mulan = {'mulan': jnp.full((B, 12), -1)}
  without = decode(batch=make_batch() | mulan, temperature=0.0)
  plain = decode(temperature=0.0)
  assert (plain != without).any()
  scaled = functools.partial(decode, temperature=0.0, guided=True)
  np.testing.assert_array_equal(scaled(guidance=1.0), plain)
  np.testing.assert_array_equal(scaled(guidance=0.0), without)
  assert (scaled(guidance=5.0) != plain).any()


def test_nothing_to_push_away_from_is_no_second_row():
  decoder, batch = compiled()[0], make_batch()
  sampler = ParallelSampler(decoder, made()[1])
  keys = jax.random.split(jax.random.key(0), B)
  for guided, levels, rows in ((True, 0, B), (False, 5, B), (True, 5, 2 * B)):
    window = sampler.begin(
      batch, keys=keys, num_mulan_levels=levels, guided=guided
    )
    assert {len(codes) for codes in window.read} == {rows}
  negative = 7 - batch['mulan']
  read = decoder.conditioning(batch, guided=True, negative=negative)
  np.testing.assert_array_equal(read[0][1::2, 0], negative)
  np.testing.assert_array_equal(read[1][::2], read[1][1::2])


def test_limits_and_temperatures_share_a_program():
  sampler = ParallelSampler(compiled()[0], made()[1])
  keys = jax.random.split(jax.random.key(0), B)
  for prefix, heat, top_k in ((0, 0.0, 3), (4, 1.0, 1), (9, 2.0, 5)):
    window = sampler.begin(
      make_batch(), keys=keys, prefix=np.ones((B, prefix, Q), np.int32)
    )
    how = SamplingParams(temperature=heat, top_k=top_k)
    codes = sampler.codes(sampler.advance(window, 10, how))
    assert codes.shape == (B, T, Q) and codes.min() >= 0
    assert (codes[:, :prefix] == 1).all()
  assert sampler._decode._cache_size() == 1


def test_a_window_is_drawn_once_and_handed_out_in_parts():
  sampler = ParallelSampler(compiled()[0], made()[1])
  keys = jax.random.split(jax.random.key(0), B)
  window, whole = sampler.begin(make_batch(), keys=keys), decode()
  for frames in (1, 4, 4, 3, 10):
    window = sampler.advance(window, frames, SamplingParams())
    codes = sampler.codes(window)
    np.testing.assert_array_equal(codes, whole[:, : codes.shape[1]])
  assert codes.shape == whole.shape
  with pytest.raises(ValueError, match='a crop has 10'):
    sampler.advance(window, 11, SamplingParams())


@pytest.mark.parametrize('weights', ['bfloat16', 'int8'])
def test_weights_of_fewer_bits_know_by_heart_what_was_learned(weights):
  task, params, _ = memorised()
  sampler = ParallelSampler(task.decoder, params, weights=weights)
  keys = jax.random.split(jax.random.key(0), B)
  window = sampler.begin(make_batch(), keys=keys)
  window = sampler.advance(window, T, SamplingParams(temperature=0.0))
  same = sampler.codes(window) == np.asarray(make_batch()['acoustic'])
  assert same.mean() > 0.95
