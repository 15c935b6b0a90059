"""Copying is found whether exact or with slips, and not where there is none."""

import numpy as np
import pytest

from musiclm_jax.metrics import memorization


@pytest.fixture(scope='module')
def corpus():
  rng = np.random.default_rng(0)
  return [rng.integers(0, 64, 250) for _ in range(40)]


def test_a_copy_at_any_offset_is_found(corpus):
  query = corpus[7][33 : 33 + 125][None]
  assert memorization.largest_shares(query, corpus)[0] == 1.0


def test_a_span_across_two_training_crops_is_no_copy(corpus):
  query = np.concatenate([corpus[0][-60:], corpus[1][:65]])[None]
  share = memorization.largest_shares(query, corpus)[0]
  assert share < 0.7
