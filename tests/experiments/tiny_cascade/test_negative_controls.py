"""Both negative controls are caught by the gates they must fail."""

import numpy as np
import pytest

from experiments.tiny_cascade import (
  cascade_checks,
  copy_checks,
  music,
  negative_controls,
)
from experiments.tiny_cascade.music import ClipStatistics
from musiclm_jax.metrics import memorization
from musiclm_jax.rendered_music import programs

MUSIC = ClipStatistics(True, 0.9, -18.0, 0.01, 6, 3.0, 0.0)


def test_a_constant_tone_of_each_family_fails_cascade_music():
  rows = []
  for family in programs.LEAD_FAMILIES:
    clip = negative_controls.constant_tone(family, 6.0)
    assert np.abs(clip).max() == pytest.approx(0.3, abs=1e-3)
    measured = music.measure(clip)
    assert measured.distinct_pitches < 3, family
    assert measured.onsets_per_second < 0.5, family
    rows.append([measured])
  gate = cascade_checks.music_gate(
    rows, [MUSIC] * len(rows), np.zeros(len(rows))
  )
  assert not gate.passed


def test_retrieval_of_training_clips_fails_cascade_copy():
  rng = np.random.default_rng(0)
  training = [rng.integers(0, 64, 250) for _ in range(30)]
  codes = rng.integers(0, 16, (30, 12))
  prompts = codes[[3, 8, 21]].copy()
  prompts[:, 6:] = rng.integers(0, 16, (3, 6))
  nearest = negative_controls.nearest_by_tokens(prompts, codes)
  np.testing.assert_array_equal(nearest, [3, 8, 21])
  retrieved = memorization.measure(
    [training[i] for i in nearest], range(3), training, frame_rate=25.0
  )
  real = memorization.measure(
    [rng.integers(0, 64, 250) for _ in range(10)],
    range(10),
    training,
    frame_rate=25.0,
  )
  copy_gate = copy_checks.copy_gate(retrieved, real)
  assert not copy_gate.passed
  tone = music.measure(negative_controls.constant_tone('piano', 4.0))
  music_gate = cascade_checks.music_gate([[tone]], [MUSIC], np.zeros(1))
  assert negative_controls.gate(copy_gate, music_gate).passed
  assert not negative_controls.gate(
    copy_checks.copy_gate(real, real), music_gate
  ).passed
