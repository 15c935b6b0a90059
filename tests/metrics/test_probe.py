"""Linear probes and the tokens that they are compared with."""

import numpy as np
import pytest

from musiclm_jax.metrics import probe as linear


def test_kmeans_tokens_separate_planted_clusters():
  rng = np.random.default_rng(0)
  centres = rng.normal(size=(4, 8)) * 10
  ids = [rng.integers(0, 4, 100) for _ in range(6)]
  frames = [centres[i] + rng.normal(size=(100, 8)) for i in ids]
  tokens, held_out = linear.kmeans_tokens(frames[:4], frames[4:], 4, 0)
  assert len(tokens) == 4 and len(held_out) == 2
  for cluster in range(4):
    assert len(set(held_out[0][ids[4] == cluster])) == 1


def test_front_ends_have_one_frame_a_token():
  wave = np.random.default_rng(0).normal(size=240_000) * 0.1
  mel = linear.log_mel_frames(wave, 25.0)
  assert abs(len(mel) - 250) <= 1
  assert linear.mfcc_frames(mel).shape == (len(mel), 20)


def test_tempo_classes_are_terciles_of_the_training_tempi():
  bpm = np.linspace(60, 180, 300)
  edges = linear.tempo_edges(bpm)
  counts = np.bincount(linear.tempo_classes(bpm, edges))
  np.testing.assert_allclose(counts, 100, atol=1)


def test_scores_of_a_planted_truth_are_higher():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(600, 5))
  truth = x[:, 2] + 0.3 * rng.normal(size=600) > 1.0
  scores = linear.probe_scores(x[:400], truth[:400], x[400:])
  held_out = truth[400:]
  assert scores[held_out].min() > np.median(scores[~held_out])


def test_balanced_accuracy_weighs_classes_and_resamples_pieces():
  """A probe that always names the common class is right by chance."""
  classes = ['common'] * 90 + ['rare'] * 10
  hits = np.array([1.0] * 90 + [0.0] * 10)
  pieces = np.arange(100) % 10
  found = linear.balanced_accuracy(hits, classes, pieces)
  assert found.value == pytest.approx(0.5) and found.low <= 0.5 <= found.high
  own = linear.balanced_accuracy(np.arange(100) % 2, classes, [0] * 100)
  assert own.low == own.value == own.high, 'one piece has no spread'


def test_areas_are_taken_within_pieces():
  """A piece of high scores throughout tells nothing of its onsets."""
  truth = np.tile([0, 1], 40)
  pieces = np.repeat(np.arange(8), 10)
  told = linear.area_under_curve(truth + 10.0 * pieces, truth, pieces)
  untold = linear.area_under_curve(10.0 * pieces, truth, pieces)
  assert told.value == 1.0 and untold.value == 0.5
  silent = np.where(pieces == 0, 0, truth)
  assert linear.area_under_curve(truth * 1.0, silent, pieces).value == 1.0
