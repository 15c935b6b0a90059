"""FAD: closed forms, published code, few samples, and streamed statistics."""

from pathlib import Path

import numpy as np
import pytest

from musiclm_jax.metrics import fad

FIXTURE = Path(__file__).parents[1] / 'fixtures' / 'audio_distances.npz'


def statistics(rows):
  return fad.EmbeddingStatistics.empty(rows.shape[1]).update(rows)


def gaussian(mean, covariance, count=10**9):
  """Statistics as infinitely many rows would have them."""
  mean, covariance = np.asarray(mean, float), np.asarray(covariance, float)
  return fad.EmbeddingStatistics(count, mean, covariance * (count - 1))


def test_gaussians_with_diagonal_covariance_have_the_closed_form():
  rng = np.random.default_rng(0)
  a, b = rng.uniform(0.1, 4, (2, 12))
  mean = rng.normal(size=12)
  found = fad.frechet_distance(
    gaussian(np.zeros(12), np.diag(a)), gaussian(mean, np.diag(b))
  )
  wanted = mean @ mean + np.square(np.sqrt(a) - np.sqrt(b)).sum()
  assert found == pytest.approx(wanted, rel=1e-8)


def test_gaussians_that_are_turned_alike_have_the_closed_form():
  rng = np.random.default_rng(1)
  turn, _ = np.linalg.qr(rng.normal(size=(9, 9)))
  a, b = rng.uniform(0.1, 4, (2, 9))
  found = fad.frechet_distance(
    gaussian(np.ones(9), turn @ np.diag(a) @ turn.T),
    gaussian(np.ones(9), turn @ np.diag(b) @ turn.T),
  )
  wanted = np.square(np.sqrt(a) - np.sqrt(b)).sum()
  assert found == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize('name', ['many', 'few'])
def test_the_distance_is_that_of_the_published_package(name):
  """Also without full rank. Mistake 45: half precision would not pass."""
  with np.load(FIXTURE) as file:
    found = fad.frechet_distance(
      statistics(file[f'{name}/reference']),
      statistics(file[f'{name}/generated']),
    )
    assert found == pytest.approx(float(file[f'{name}/fad']), rel=1e-4)


def test_a_set_is_at_no_distance_of_itself_also_without_full_rank():
  for count in (5, 400):
    rows = np.random.default_rng(2).normal(size=(count, 32))
    own = statistics(rows)
    assert fad.frechet_distance(own, own) < 1e-9


def test_streamed_statistics_are_those_of_all_rows():
  rows = 1000 + np.random.default_rng(3).normal(size=(303, 7))
  streamed = fad.EmbeddingStatistics.empty(7)
  for part in np.array_split(rows, 11):
    streamed = streamed.update(part)
  halves = statistics(rows[:100]).merge(statistics(rows[100:]))
  for found in (streamed, halves):
    assert found.count == 303
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
      found.covariance, np.cov(rows.T), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(('width', 'trials'), [(16, 16), (32, 6)])
def test_fad_infinity_removes_the_bias_of_200_samples(width, trials):
  """At least 80 % of it. Mistake 48: the figure of few samples is too high."""
  reference = gaussian(np.zeros(width), np.eye(width))
  truth = width * (0.2**2 + (1.2 - 1) ** 2)
  plain, infinite = [], []
  rng = np.random.default_rng(4)
  for seed in range(trials):
    rows = rng.normal(size=(200, width)) * 1.2 + 0.2
    groups = [statistics(part) for part in np.array_split(rows, 20)]
    plain.append(fad.frechet_distance(reference, fad.merged(groups)))
    infinite.append(fad.fad_infinity(reference, groups, seed=seed))
  bias = np.mean(plain) - truth
  assert bias > 0
  assert abs(np.mean(infinite) - truth) < 0.2 * bias


def test_fad_infinity_needs_five_sizes():
  groups = [statistics(np.eye(3) * k) for k in range(1, 6)]
  assert fad.fad_infinity(groups[0], groups) is None


def test_the_interval_holds_the_figure_and_narrows_with_more_rows():
  rng = np.random.default_rng(5)
  reference = gaussian(np.zeros(4), np.eye(4))
  widths = []
  for count in (200, 3200):
    rows = rng.normal(size=(count, 4)) + 0.5
    groups = [statistics(part) for part in np.array_split(rows, 20)]
    found = fad.interval(reference, groups)
    assert found.low < found.value < found.high
    widths.append(found.high - found.low)
  assert widths[1] < widths[0] / 2


def test_the_distance_of_a_song_is_that_of_its_rows():
  rng = np.random.default_rng(6)
  reference = statistics(rng.normal(size=(500, 16)))
  song = rng.normal(size=(9, 16)) * 0.3 + 1
  assert fad.song_distance(reference, song) == pytest.approx(
    fad.frechet_distance(reference, statistics(song)), rel=1e-8
  )
  assert fad.song_distance(reference, song[:1]) is None


@pytest.mark.parametrize(
  ('rows', 'words'),
  [(np.full((3, 2), np.nan), 'finite'), (np.zeros((1, 2)), '2 rows')],
)
def test_what_has_no_covariance_is_refused(rows, words):
  with pytest.raises(ValueError, match=words):
    _ = statistics(rows).covariance


def test_other_widths_are_refused():
  a, b = (
    statistics(np.random.default_rng(7).normal(size=(9, n))) for n in (2, 3)
  )
  with pytest.raises(ValueError, match='one width'):
    fad.frechet_distance(a, b)
