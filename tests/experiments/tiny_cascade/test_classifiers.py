"""Classifiers learn what is audible, and say so when they have not."""

import numpy as np
import pytest

from experiments.tiny_cascade import classifiers, features, train_classifiers
from musiclm_jax.rendered_music import programs

RATE = 24_000
FAMILIES = ('bright', 'hollow', 'soft')


def clip(seed):
  """A plucked line of 5 s at a tempo, in one of three timbres."""
  rng = np.random.default_rng(seed)
  family = FAMILIES[seed % 3]
  bpm = float(np.exp(rng.uniform(np.log(70), np.log(160))))
  out = 1e-3 * rng.standard_normal(RATE * 5)
  at, step = 0.0, 60 / bpm
  harmonics = {
    'bright': {h: 1 / h for h in range(1, 9)},
    'hollow': {h: 1 / h for h in (1, 3, 5, 7)},
    'soft': {1: 1.0, 2: 0.1},
  }[family]
  beat = 0
  while at < 5 - step:
    length = int(step * RATE)
    time = np.arange(length) / RATE
    hz = 220 * 2 ** (rng.integers(0, 13) / 12)
    note = sum(
      gain * np.sin(2 * np.pi * hz * h * time) for h, gain in harmonics.items()
    )
    accent = 0.25 if beat % 4 == 0 else 0.15
    start = int(at * RATE)
    out[start : start + length] += accent * note * np.exp(-5 * time)
    at, beat = at + step, beat + 1
  return out, family, bpm


@pytest.fixture(scope='module')
def sides():
  out = []
  for seeds in (range(60), range(1000, 1024)):
    clips, families, bpm = zip(*map(clip, seeds), strict=True)
    out.append(
      (
        [features.timbre(c) for c in clips],
        np.stack([features.tempogram(c) for c in clips]),
        list(families),
        list(bpm),
      )
    )
  return out


def test_the_family_classifier_knows_timbre(sides):
  train, test = sides
  classifier = train_classifiers.fit_family(train[0], train[2])
  named = classifier.predict(test[0])
  assert np.mean([a == b for a, b in zip(named, test[2], strict=True)]) > 0.9


def test_the_tempo_classifier_counts_beats(sides):
  train, test = sides
  classifier = train_classifiers.fit_tempo(train[1], train[3])
  assert (
    classifiers.tempo_hits(classifier.predict(test[1]), test[3]).mean() > 0.8
  )


def test_classifiers_of_one_seed_agree(sides):
  train, test = sides
  first, second = (
    train_classifiers.fit_tempo(train[1][:30], train[3][:30], seed=3).predict(
      test[1]
    )
    for _ in range(2)
  )
  np.testing.assert_array_equal(first, second)


def test_a_tempogram_moves_with_the_tempo():
  """A clip played 2**(6/24) times faster is the same, 6 bins up."""

  def clicks(bpm):
    wave = 1e-3 * np.random.default_rng(0).standard_normal(RATE * 10)
    for k in range(int(10 * bpm / 60)):
      start = int(k * 60 / bpm * RATE)
      wave[start : start + 400] += np.hanning(800)[400:]
    return features.tempogram(wave)

  slow, fast = clicks(80.0), clicks(80.0 * 2**0.25)
  moved = train_classifiers.shifted(slow, 6)
  inner = (0, 3, slice(12, 84))
  assert np.corrcoef(moved[inner], fast[inner])[0, 1] > 0.9
  assert np.corrcoef(slow[inner], fast[inner])[0, 1] < 0.7


def test_double_tempo_is_a_miss():
  hits = classifiers.tempo_hits([120.0, 111.0, 100.0], [60.0, 100.0, 100.0])
  np.testing.assert_array_equal(hits, [0, 1, 1])


def qualification(real, coded, threshold=0.85):
  units = list(range(40))
  return classifiers.qualify(
    'family',
    [real] * 40,
    [coded] * 40,
    units,
    chance=0.125,
    threshold=threshold,
    classes=['a', 'b'] * 20,
  )


def test_a_classifier_must_reach_its_threshold_on_plain_music():
  """What the codec keeps of it is the codec's matter."""
  assert qualification(0.9, 0.9).qualified
  assert qualification(0.95, 0.5).qualified
  assert qualification(0.95, 0.5).kept.value == pytest.approx(0.5 / 0.95)
  assert not qualification(0.5, 0.95).qualified


def test_the_frozen_classifiers_are_those_that_were_measured(tmp_path):
  family, tempo = classifiers.load()
  assert set(family.names) == set(programs.LEAD_FAMILIES)
  other = tmp_path / 'other.safetensors'
  classifiers.save(family, tempo, {'clips': 0}, other)
  with pytest.raises(ValueError, match='trained anew are named'):
    classifiers.load(other)


def test_what_scikit_learn_has_fitted_is_computed_as_it_would(sides):
  from sklearn.neural_network import MLPClassifier
  from sklearn.preprocessing import StandardScaler

  rows = np.concatenate(sides[0][0])[:200]
  labels = np.arange(len(rows)) % 3
  model = MLPClassifier((8,), max_iter=5, random_state=0)
  layers = train_classifiers._fit(model, rows, labels)
  x = StandardScaler().fit(rows).transform(rows)
  np.testing.assert_allclose(
    layers.shares(rows), model.predict_proba(x), atol=1e-5
  )


def test_other_codecs_leave_length_and_place_of_a_clip():
  plain, _, _ = clip(2)
  for number in range(3):
    coded = train_classifiers.through_other_codec(plain, number)
    assert coded.shape == plain.shape and coded.dtype == np.float32
    assert np.abs(coded - plain).max() > 1e-3


def test_a_classifier_of_the_majority_only_does_not_qualify():
  classes = ['a'] * 36 + ['b'] * 4
  hits = [1.0] * 36 + [0.0] * 4
  found = classifiers.qualify(
    'family', hits, hits, range(40), chance=0.5, threshold=0.85, classes=classes
  )
  assert found.real.value == 0.5 and not found.qualified


def test_chance_of_permuted_labels_is_that_of_a_constant_classifier():
  labels = ['piano'] * 90 + ['organ'] * 10
  chance = classifiers.permuted_chance(labels, ['piano'] * 100)
  assert chance == pytest.approx(0.5)
