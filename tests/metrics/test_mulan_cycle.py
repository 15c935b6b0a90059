"""MuLan cycle consistency: own texts, and those of others."""

import numpy as np
import pytest

from musiclm_jax.metrics import mulan_cycle


def units(rng, count, width=16):
  rows = rng.normal(size=(count, width))
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_figures_are_means_of_cosines():
  rng = np.random.default_rng(0)
  text, audio = units(rng, 12), units(rng, 12)
  found = mulan_cycle.cycle_consistency(text, audio)
  cosines = audio @ text.T
  own = np.diagonal(cosines)
  others = (cosines.sum() - own.sum()) / (12 * 11)
  np.testing.assert_allclose(found.cosines, own)
  assert found.raw.value == pytest.approx(own.mean())
  assert found.mismatched == pytest.approx(others)
  assert found.above_mismatched.value == pytest.approx(own.mean() - others)
  assert found.raw.low < found.raw.value < found.raw.high


def test_an_offset_of_all_pairs_is_taken_off():
  rng = np.random.default_rng(1)
  offset = 5 * units(rng, 1)
  shifted = units(rng, 40) + offset
  shifted /= np.linalg.norm(shifted, axis=1, keepdims=True)
  other = units(rng, 40) + offset
  other /= np.linalg.norm(other, axis=1, keepdims=True)
  found = mulan_cycle.cycle_consistency(shifted, other)
  assert found.raw.value > 0.9
  assert found.above_mismatched.low <= 0 <= found.above_mismatched.high


def test_clips_of_one_prompt_are_one_unit_and_no_mismatch():
  rng = np.random.default_rng(2)
  text = np.repeat(units(rng, 3), 4, axis=0)
  audio = units(rng, 12)
  prompts = ['a'] * 4 + ['b'] * 4 + ['c'] * 4
  found = mulan_cycle.cycle_consistency(text, audio, prompts)
  cosines = audio @ text.T
  other = np.array(prompts)[:, None] != np.array(prompts)
  assert found.mismatched == pytest.approx(cosines[other].mean())
  alone = mulan_cycle.cycle_consistency(text[:4], audio[:4], prompts[:4])
  assert alone.mismatched is None and alone.above_mismatched is None


def test_what_is_no_pair_is_refused():
  with pytest.raises(ValueError, match='pairs'):
    mulan_cycle.cycle_consistency(np.zeros((2, 3)), np.zeros((3, 3)))
