"""The probe finds planted knowledge and no other."""

import numpy as np
import pytest

from experiments.tiny_cascade import token_checks
from musiclm_jax.metrics import probe as linear

SIZE = 32
FAMILIES = ('piano', 'organ', 'brass')


def crops(seed, count):
  rng = np.random.default_rng(seed)
  family = rng.choice(FAMILIES, count)
  tempo = rng.integers(0, 3, count)
  return token_checks.ProbedCrops(
    [f'{seed}-{i // 2}' for i in range(count)],
    {'family': family.tolist(), 'tempo': tempo.tolist()},
  )


def stream(labels, seed, strength):
  """Tokens whose histogram tells family and tempo apart, or does not."""
  rng = np.random.default_rng(seed)
  out = []
  for family, tempo in zip(
    labels.labels['family'], labels.labels['tempo'], strict=True
  ):
    tokens = rng.integers(0, SIZE, 250)
    marked = rng.random(250) < strength
    tokens[marked] = FAMILIES.index(family)
    marked = rng.random(250) < strength
    tokens[marked] = 8 + tempo
    out.append(tokens)
  return out


@pytest.fixture(scope='module')
def sides():
  return crops(0, 400), crops(1, 160)


def probe(sides, strengths):
  streams = {
    name: tuple(
      stream(side, seed + 10 * k, strength) for k, side in enumerate(sides)
    )
    for seed, (name, strength) in enumerate(strengths.items())
  }
  return token_checks.probe_all(streams, *sides, SIZE)


def test_tokens_that_know_more_than_the_baselines_pass(sides):
  results = probe(sides, {'w2v_bert': 0.3, 'log_mel': 0.02, 'untrained': 0.0})
  gate = token_checks.probe_gate(results)
  assert gate.passed, gate
  assert gate.low > gate.chance


def test_tokens_no_better_than_log_mel_fail(sides):
  results = probe(sides, {'w2v_bert': 0.1, 'log_mel': 0.1, 'untrained': 0.0})
  assert not token_checks.probe_gate(results).passed


def test_tokens_that_know_nothing_stay_at_the_majority(sides):
  results = probe(sides, {'w2v_bert': 0.0, 'log_mel': 0.0})
  assert not token_checks.probe_gate(results).passed
  for result in results.values():
    assert abs(result.accuracy('w2v_bert').value - result.majority) < 0.15


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
