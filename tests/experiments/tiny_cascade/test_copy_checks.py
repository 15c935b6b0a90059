"""Copying fails whether exact or with slips, and is excused where real."""

import numpy as np
import pytest

from experiments.tiny_cascade import cascade_checks
from musiclm_jax.metrics import memorization

RATE = 25.0


@pytest.fixture(scope='module')
def corpus():
  rng = np.random.default_rng(0)
  return [rng.integers(0, 64, 250) for _ in range(40)]


def fresh(seed, count=16):
  rng = np.random.default_rng(seed)
  return [rng.integers(0, 64, 250) for _ in range(count)]


def measured(streams, corpus):
  return memorization.measure(
    streams, range(len(streams)), corpus, frame_rate=RATE
  )


def test_fresh_music_passes(corpus):
  gate = cascade_checks.copy_gate(
    measured(fresh(1), corpus), measured(fresh(2), corpus)
  )
  assert gate.passed


def test_exact_copies_fail(corpus):
  gate = cascade_checks.copy_gate(
    measured(corpus[:16], corpus), measured(fresh(2), corpus)
  )
  assert not gate.passed
  assert not any(gate.conditions.values())


def test_copies_with_slips_fail_though_none_is_exact(corpus):
  rng = np.random.default_rng(3)
  slipped = []
  for stream in corpus[:16]:
    copy = stream.copy()
    copy[rng.permutation(250)[:25]] = 65
    slipped.append(copy)
  ours = measured(slipped, corpus)
  assert ours.exact_rate() == 0.0
  gate = cascade_checks.copy_gate(ours, measured(fresh(2), corpus))
  assert not gate.passed


def test_one_exact_copy_fails_where_real_pieces_hold_none(corpus):
  clips = corpus[:1] + fresh(1)[1:]
  gate = cascade_checks.copy_gate(
    measured(clips, corpus), measured(fresh(2), corpus)
  )
  assert not gate.passed


def test_real_pieces_that_repeat_the_corpus_excuse_as_much(corpus):
  """Composed loops repeat legitimately: the null is held-out real music."""
  gate = cascade_checks.copy_gate(
    measured(corpus[:16], corpus), measured(corpus[16:32], corpus)
  )
  assert gate.passed
