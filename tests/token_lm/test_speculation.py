"""Speculative decoding draws what decoding draws, in fewer passes of the LM."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats
from small_token_lms import generate, made, make_batch

from musiclm_jax.token_lm import speculation
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.sampler import Draft, Sampler

FRAMES = 10


@functools.cache
def lms():
  """A coarse LM, and another one that agrees with it often enough."""
  task, params = made('coarse')
  sharp = {**params['lm'], 'output': params['lm']['output'] * 1.5}
  rng = np.random.default_rng(0)

  def other(leaf):
    noise = rng.normal(size=leaf.shape) * np.std(leaf)
    return np.asarray(leaf + 0.1 * noise, np.float32)

  return task.lm, {'lm': sharp}, {'lm': jax.tree.map(other, sharp)}


@functools.cache
def sampler(draft):
  lm, params, other = lms()
  guess = {'none': None, 'itself': params, 'another': other}[draft]
  return Sampler(lm, params, draft=guess and Draft(lm, guess))


def conditioning(rows=3):
  batch = make_batch(rows)
  return {name: batch[name] for name in ('mulan', 'semantic')}


def sample(draft, rows=3, frames=FRAMES, seed=0, **how):
  return generate(
    sampler(draft),
    conditioning(rows),
    num_frames=frames,
    keys=jax.random.split(jax.random.key(seed), rows),
    sampling=SamplingParams(**how),
  )


@pytest.mark.parametrize(
  'draft,how',
  [
    ('itself', {}),
    ('another', {}),
    ('another', {'temperature': 0.0}),
    ('another', {'top_k': 4, 'top_p': 0.9, 'guidance': 3.0}),
  ],
  ids=str,
)
def test_it_draws_what_decoding_draws(draft, how):
  np.testing.assert_array_equal(sample(draft, **how), sample('none', **how))


@pytest.mark.parametrize('draft', ['itself', 'another'])
def test_a_window_that_stops_goes_on_as_if_it_had_not(draft):
  whole = sample('none')
  one = sampler(draft)
  keys = jax.random.split(jax.random.key(0), 3)
  window = one.begin(conditioning(), keys=keys)
  for frames in (1, 4, 4, 5, 10):  # of two tokens each
    window = one.advance(window, frames, SamplingParams())
    codes = one.codes(window)
    np.testing.assert_array_equal(codes, whole[:, : codes.shape[1]])


def test_of_a_perfect_draft_every_guess_stays():
  one = sampler('itself')
  keys = jax.random.split(jax.random.key(0), 3)
  window = one.begin(conditioning(), keys=keys)
  window = one.advance(window, FRAMES, SamplingParams())
  tokens = FRAMES * 2
  passes = tokens // (speculation.GUESSES + 1)
  assert int(window.sequence.guessed.passes) == passes


def test_a_draft_that_errs_costs_passes_and_no_more():
  one = sampler('another')
  keys = jax.random.split(jax.random.key(0), 3)
  window = one.begin(conditioning(), keys=keys)
  window = one.advance(window, FRAMES, SamplingParams())
  most = FRAMES * 2
  assert (
    most // (speculation.GUESSES + 1)
    < int(window.sequence.guessed.passes)
    < most
  )


def test_its_tokens_have_the_distribution_of_decoding():
  """Of other keys, by chi-square: not the same draws, the same shares."""
  rows = 512
  batch = {n: np.repeat(v[:1], rows, axis=0) for n, v in conditioning().items()}

  def first_frames(draft, seed):
    return generate(
      sampler(draft),
      batch,
      num_frames=4,
      keys=jax.random.split(jax.random.key(seed), rows),
      sampling=SamplingParams(),
    ).reshape(rows, -1)

  plain, guessed = first_frames('none', 1), first_frames('another', 2)
  for place in range(plain.shape[1]):
    counts = [np.bincount(x[:, place], minlength=16) for x in (plain, guessed)]
    seen = np.array(counts)[:, np.sum(counts, axis=0) > 10]
    assert stats.chi2_contingency(seen).pvalue > 1e-4
  # It can tell: with another temperature the shares are others.
  hot = generate(
    sampler('none'),
    batch,
    num_frames=4,
    keys=jax.random.split(jax.random.key(3), rows),
    sampling=SamplingParams(temperature=2.0),
  ).reshape(rows, -1)
  counts = [np.bincount(x[:, 0], minlength=16) for x in (plain, hot)]
  seen = np.array(counts)[:, np.sum(counts, axis=0) > 10]
  assert stats.chi2_contingency(seen).pvalue < 1e-4
