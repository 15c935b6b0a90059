"""Recall and agreement of planted embeddings and codes."""

import numpy as np
import pytest

from experiments.tiny_cascade import token_checks
from musiclm_jax.metrics import retrieval


def pairs(noise, count=64, seed=0):
  rng = np.random.default_rng(seed)
  text = rng.normal(size=(count, 32))
  audio = text + noise * rng.normal(size=text.shape)

  def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  return unit(text), unit(audio)


def test_matching_embeddings_are_all_found():
  hits = retrieval.gallery_recall(*pairs(0.1), gallery=64)
  assert hits.mean() == 1.0 and token_checks.recall_gate(hits).passed


def test_unrelated_embeddings_stay_at_chance_and_fail():
  hits = [
    retrieval.gallery_recall(
      pairs(0, seed=s)[0], pairs(0, seed=99 + s)[0], gallery=64
    )
    for s in range(40)
  ]
  assert np.mean(hits) == pytest.approx(1 / 64, abs=0.01)
  assert not token_checks.recall_gate(hits[0]).passed


def test_collapsed_embeddings_find_what_chance_does():
  same = np.ones((64, 8)) / np.sqrt(8)
  hits = retrieval.gallery_recall(same, same, gallery=64)
  assert hits.mean() == pytest.approx(1 / 64)
  assert not token_checks.recall_gate(hits).passed


def test_a_larger_set_is_averaged_over_galleries():
  hits = retrieval.gallery_recall(*pairs(2.0, count=120), gallery=64)
  assert len(hits) == 120
  assert 0 < hits.mean() < 1


def test_too_few_pairs_are_refused():
  with pytest.raises(ValueError, match='64 distinct pairs'):
    retrieval.gallery_recall(*pairs(0.1, count=30), gallery=64)


def test_distinct_keeps_one_pair_per_attribute_tuple():
  assert token_checks.distinct(['a', 'b', 'a', 'c']) == [0, 1, 3]


def codes(agree, seed=0):
  rng = np.random.default_rng(seed)
  audio = rng.integers(0, 8, (120, 12))
  text = rng.integers(0, 8, (120, 12))
  same = rng.random((120, 12)) < np.asarray(agree)
  return np.where(same, audio, text), audio, [i // 2 for i in range(120)]


def test_codes_that_agree_on_two_levels_pass():
  measured = token_checks.code_agreement(*codes([0.5, 0.4] + [0] * 10))
  assert token_checks.handover_gate(measured).passed
  assert measured.margin(7).low < 0.1


def test_codes_that_agree_on_the_first_level_only_fail():
  measured = token_checks.code_agreement(*codes([0.5] + [0] * 11, seed=1))
  gate = token_checks.handover_gate(measured)
  assert not gate.passed and sum(gate.conditions.values()) == 1


def test_one_code_for_everything_agrees_by_chance_only():
  """Mistake 16: an RVQ that sees text as one point always agrees."""
  same = np.zeros((60, 12), int)
  measured = token_checks.code_agreement(same, same, range(60))
  assert not token_checks.handover_gate(measured).passed
