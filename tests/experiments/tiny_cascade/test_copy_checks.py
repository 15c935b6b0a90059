"""Copying fails whether exact or with slips, and is excused where real."""

import numpy as np
import pytest

from experiments.tiny_cascade import copy_checks
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
    streams,
    range(len(streams)),
    corpus,
    frame_rate=RATE,
    least_bits=copy_checks.LEAST_BITS,
  )


def test_fresh_music_passes(corpus):
  gate = copy_checks.copy_gate(
    measured(fresh(1), corpus), measured(fresh(2), corpus)
  )
  assert gate.passed


def test_exact_copies_fail(corpus):
  gate = copy_checks.copy_gate(
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
  gate = copy_checks.copy_gate(ours, measured(fresh(2), corpus))
  assert not gate.passed
  matches = copy_checks.near_matches(
    ours,
    measured(slipped, fresh(4, 40)),
    copy_checks.near_threshold(measured(fresh(2), corpus)),
    0.5,
  )
  assert matches['nearest_in_training'] == matches['spans'] == len(ours.shares)
  assert matches['nearest_in_unseen'] == 0


@pytest.mark.parametrize(('copied', 'passed'), [(1, True), (5, False)])
def test_exact_copies_fail_where_chance_does_not_explain_them(
  corpus, copied, passed
):
  """One of sixteen clips may be luck though real pieces hold none."""
  clips = corpus[:copied] + fresh(1)[copied:]
  gate = copy_checks.copy_gate(
    measured(clips, corpus), measured(fresh(2), corpus)
  )
  words = 'exact 5 s copies no more frequent than in held-out pieces'
  assert gate.conditions[words] == passed


def test_held_tokens_are_no_copies(corpus):
  """5 s of one token equal 5 s of one token in any music."""
  held = [np.full(250, 7)] * 16
  training = [*corpus, np.full(250, 7)]
  ours = measured(held[:8] + fresh(1)[8:], training)
  assert ours.left_out == 24 and ours.exact_rate() == 0.0
  assert copy_checks.copy_gate(ours, measured(fresh(2), training)).passed
  nothing = measured(held, training)
  assert not len(nothing.shares)
  assert not copy_checks.copy_gate(nothing, measured(fresh(2), corpus)).passed


def test_real_pieces_that_repeat_the_corpus_excuse_as_much(corpus):
  """Composed loops repeat legitimately: the null is held-out real music."""
  gate = copy_checks.copy_gate(
    measured(corpus[:16], corpus), measured(corpus[16:32], corpus)
  )
  assert gate.passed
