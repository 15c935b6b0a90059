"""Bootstrap, balance and chance: figures that can be wrong are caught."""

import numpy as np
import pytest

from musiclm_jax.metrics import bootstrap


def test_bounds_hold_the_true_mean_about_as_often_as_they_say():
  rng = np.random.default_rng(0)
  misses = 0
  for trial in range(300):
    sample = rng.normal(1.0, 2.0, 40)
    interval = bootstrap.mean(sample, seed=trial, resamples=400)
    misses += interval.low > 1.0
  assert 0.02 < misses / 300 < 0.10


def test_bounds_are_tight_for_equal_units_and_wide_for_few():
  assert bootstrap.mean([0.5] * 20).low == 0.5
  few = bootstrap.mean([0, 1] * 4)
  many = bootstrap.mean([0, 1] * 100)
  assert few.low < many.low < 0.5 < many.high < few.high


def test_a_unit_counts_once_however_many_clips_it_has():
  means, units = bootstrap.unit_means([1, 1, 1, 0], ['a', 'a', 'a', 'b'])
  assert units == ['a', 'b']
  np.testing.assert_array_equal(means, [1.0, 0.0])


def test_balanced_accuracy_sees_through_a_classifier_that_names_the_majority():
  labels = ['piano'] * 90 + ['organ'] * 10
  hits = [1.0] * 90 + [0.0] * 10
  assert bootstrap.balanced_mean(hits) == 0.9
  balanced = bootstrap.mean(hits, classes=labels)
  assert balanced.value == balanced.low == 0.5


def test_a_paired_difference_is_found_where_unpaired_noise_hides_it():
  rng = np.random.default_rng(1)
  theirs = rng.normal(0, 5, 50)
  ours = theirs + 0.2 + rng.normal(0, 0.1, 50)
  assert bootstrap.difference(ours, theirs).low > 0
  assert bootstrap.two_samples(ours, theirs).low < 0


def test_no_difference_is_seldom_called_one():
  rng = np.random.default_rng(2)
  found = [
    bootstrap.difference(
      rng.normal(size=30), rng.normal(size=30), seed=trial
    ).low
    > 0
    for trial in range(200)
  ]
  assert np.mean(found) < 0.12


def test_spread_is_centred_on_a_figure_that_resampling_biases():
  histograms = np.eye(64)

  def used(units):
    return float((histograms[units].sum(axis=0) > 0).mean())

  interval = bootstrap.spread(used, 64)
  assert interval.value == 1.0
  assert interval.low < 1.0 < interval.high


def test_nothing_to_resample_is_refused():
  with pytest.raises(ValueError, match='at least one unit'):
    bootstrap.mean([])


def test_bounds_of_a_ratio_hold_it_and_leave_out_resamples_without_one():
  rng = np.random.default_rng(3)
  above, below = rng.normal(6.0, 1.0, 60), rng.normal(2.0, 0.5, 60)

  def ratio(units):
    if 0 in units and 1 not in units:
      return float('nan')
    return above[units].mean() / below[units].mean()

  found = bootstrap.statistic(ratio, 60, resamples=400)
  assert found.low < found.value < found.high
  assert found.low < 3.0 < found.high
  assert found.high - found.low < 0.6


def test_a_ratio_is_bounded_by_paired_resamples():
  rng = np.random.default_rng(0)
  theirs = rng.uniform(0.2, 1.0, 400)
  whole = bootstrap.ratio(0.8 * theirs, theirs)
  assert whole.value == pytest.approx(0.8) and whole.high - whole.low < 1e-9
  noisy = bootstrap.ratio(rng.permutation(theirs), theirs)
  assert noisy.low < 1.0 < noisy.high < 1.2
