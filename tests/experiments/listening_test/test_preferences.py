"""Wins, strengths and tests against closed forms and planted raters."""

import numpy as np
import pytest
from scipy import stats

from experiments.listening_test import preferences, simulate
from experiments.listening_test.preferences import Ratings


def _ratings(rows, systems=('a', 'b', 'c')):
  first, second, preference, prompts = zip(*rows, strict=True)
  columns = [np.array(x, np.int64) for x in (first, second, preference)]
  return Ratings(systems, *columns, list(prompts), ['r'] * len(rows))


def test_wins_count_weak_and_strong_preferences_on_either_side():
  ratings = _ratings(
    [(0, 1, -2, 'x'), (1, 0, 1, 'x'), (1, 0, -1, 'y'), (0, 1, 0, 'y')]
  )
  assert preferences.wins(ratings).tolist() == [[0, 2, 0], [1, 0, 0], [0] * 3]
  compared = preferences.comparisons(ratings)
  assert compared.tolist() == [[0, 4, 0], [4, 0, 0], [0, 0, 0]]


def test_wins_and_ties_of_the_paper_add_up():
  # 1,200 ratings of four sources, 600 of each: half of these sums to all.
  ratings = simulate.planted([0.0] * 4, prompts=200, raters=5)
  compared = preferences.comparisons(ratings)
  assert len(ratings) == 1200 and compared.sum(axis=1).tolist() == [600] * 4


@pytest.mark.parametrize('won, lost', [(30, 10), (100, 300)])
def test_strengths_of_two_are_the_log_odds(won, lost):
  counts = np.array([[won, lost, 0.0]])
  found = preferences.strengths(counts, 2)
  assert found[0] - found[1] == pytest.approx(np.log(won / lost), abs=0.01)
  assert found.sum() == pytest.approx(0.0, abs=1e-12)


def test_strengths_maximize_the_likelihood_that_davidson_wrote():
  # Expected counts of planted strengths are fitted by these strengths.
  planted, tie = np.array([0.7, 0.2, -0.9]), 0.6
  counts = []
  for a, b in ((0, 1), (0, 2), (1, 2)):
    mean = (planted[a] + planted[b]) / 2
    odds = np.exp([planted[a], planted[b], mean + np.log(tie)])
    counts.append(1e6 * odds / odds.sum())
  found = preferences.strengths(np.array(counts), 3)
  np.testing.assert_allclose(found, planted, atol=1e-6)


def test_who_wins_everything_has_a_finite_strength():
  counts = np.array([[20.0, 0, 0], [20, 0, 0], [10, 10, 0]])
  found = preferences.strengths(counts, 3)
  assert np.isfinite(found).all() and found[0] > found[1] + 3


def test_p_is_scipys_and_none_preferred_is_no_evidence():
  values = np.array([1, 2, -1, 2, 2, 1, 0, 0, 2, 1, 1, -2])
  expected = stats.wilcoxon(
    values[values != 0], method='approx', correction=True
  )
  assert preferences.p_value(values) == pytest.approx(expected.pvalue)
  assert preferences.p_value(np.zeros(9)) == 1.0


def test_many_raters_of_one_prompt_are_one_unit():
  ratings = _ratings([(0, 1, -1, 'x')] * 60)
  test = preferences.signed_ranks(ratings)[0]
  assert test.p_value < test.threshold and not test.significant


def test_level_is_divided_by_the_tests():
  ratings = _ratings([(0, 1, -1, 'x'), (0, 2, 1, 'y'), (1, 2, 1, 'z')])
  found = preferences.signed_ranks(ratings)
  assert {test.threshold for test in found} == {0.01 / 3}
  assert preferences.signed_ranks(ratings, tests=15)[0].threshold == 0.01 / 15


def test_planted_ranking_is_recovered_and_bounds_hold_it():
  # 95 % of one-sided bounds hold; of 60 runs, 4 systems each, 88 % or more.
  found = simulate.recovered(60, prompts=50, resamples=200)
  assert found['order'] > 0.9
  assert 0.88 < found['low'] <= 1 and 0.88 < found['high'] <= 1


def test_a_planted_preference_is_significant_and_none_is_not():
  ratings = simulate.planted(simulate.PLANTED, prompts=150, raters=9, seed=1)
  best_and_worst = preferences.signed_ranks(ratings)[2]
  assert best_and_worst.pair == (0, 3) and best_and_worst.significant
  # At most 5 % of runs are expected; 6 of 40 would be 1 in 100 by chance.
  assert simulate.false_alarms(40, prompts=50, alpha=0.05) < 6 / 40
