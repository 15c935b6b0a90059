"""Costs of stages: differences of rows, their bounds, and what they name."""

import itertools

import numpy as np
import pytest

from musiclm_jax.metrics import attribution, kad
from musiclm_jax.metrics.fad import EmbeddingStatistics

CLIPS, WINDOWS, WIDTH = 24, 6, 4


def rows_with_a_fault(fault, seed=0):
  """Rows of embeddings [N, D] in which one stage adds noise, and clips [N]."""
  rng = np.random.default_rng(seed)
  shape = CLIPS, WINDOWS, WIDTH
  centres = rng.normal(size=(CLIPS, 1, WIDTH))
  made = centres + 0.4 * rng.normal(size=shape)
  rows = {attribution.REFERENCE: made}
  for stage in attribution.STAGES:
    made = made + (0.8 if stage == fault else 0.02) * rng.normal(size=shape)
    rows[stage] = made
  flat = {row: x.reshape(-1, WIDTH) for row, x in rows.items()}
  return flat, np.repeat(np.arange(CLIPS), WINDOWS)


@pytest.mark.parametrize('fault', attribution.STAGES)
def test_each_distance_names_the_stage_that_adds_noise(fault):
  rows, clips = rows_with_a_fault(fault)
  groups = {
    row: [
      EmbeddingStatistics.empty(WIDTH).update(x[clips % 12 == group])
      for group in range(12)
    ]
    for row, x in rows.items()
  }
  for measure in (
    attribution.kernel(rows, clips),
    attribution.clip_kernel(rows, clips),
    attribution.frechet(groups),
  ):
    found = attribution.weakest_stage(measure)
    assert found.weakest == found.largest == fault
    assert found.costs[fault].low > 0
    assert all(bounds.low > 0 for bounds in found.excess.values())
    before = ('reference', *attribution.STAGES)
    for above, row in itertools.pairwise(before):
      difference = measure.values[row] - measure.values[above]
      assert found.costs[row].value == pytest.approx(difference)


def test_no_stage_stands_out_where_none_loses_or_two_lose_alike():
  rows, clips = rows_with_a_fault('fine')
  same = dict.fromkeys(rows, rows[attribution.REFERENCE])
  measure = attribution.kernel(same, clips)
  assert all(value == pytest.approx(0) for value in measure.values.values())
  assert attribution.weakest_stage(measure).weakest is None
  rng = np.random.default_rng(0)
  loss = rng.uniform(size=(2, 40))
  two = {
    'reference': np.zeros(40),
    'codec': loss[0],
    'fine': loss[0] + loss[1],
  }
  assert attribution.weakest_stage(attribution.clip_means(two)).weakest is None
  two['fine'] = loss[0] + 9 * loss[1]
  found = attribution.weakest_stage(attribution.clip_means(two))
  assert found.weakest == 'fine'


def test_the_ablation_is_compared_with_the_whole_cascade():
  losses = {'reference': [0.0] * 5, 'codec': [1.0] * 5, 'fine': [2.0] * 5}
  losses |= {'coarse': [3.0] * 5, 'semantic': [5.0] * 5}
  losses['no_semantic'] = [12.0] * 5
  measure = attribution.clip_means(losses)
  assert measure.cost('no_semantic').value == 7
  assert measure.stages == ('codec', 'fine', 'coarse', 'semantic')
  assert attribution.weakest_stage(measure).largest == 'semantic'


def test_exchanged_clips_are_the_same_set_but_not_the_same_clips():
  rows, clips = rows_with_a_fault(None)
  other = rows['semantic'].reshape(CLIPS, -1)[np.roll(np.arange(CLIPS), 5)]
  rows['text'] = other.reshape(rows['semantic'].shape)
  found = attribution.weakest_stage(attribution.kernel(rows, clips))
  assert found.weakest is None
  found = attribution.weakest_stage(attribution.clip_kernel(rows, clips))
  assert found.weakest == 'text'


def test_a_distance_of_pairs_is_that_of_a_plain_loop():
  rows, clips = rows_with_a_fault('coarse')
  x, y = rows['reference'], rows['coarse']
  width = kad.median_distance(x)
  values, drawn = kad.paired_distances(x, [y], clips)

  def mean(a, b):
    squares = np.square(a[:, None] - b[None]).sum(axis=-1)
    kernel = np.exp(-squares / (2 * width**2))
    return kernel[clips[:, None] != clips[None]].mean()

  wanted = 100 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
  assert values[0] == pytest.approx(wanted, rel=1e-10)
  # Bounds that hold: the spread of resamples is that of other draws of clips.
  others = []
  for seed in range(12):
    again, _ = rows_with_a_fault('coarse', seed)
    pair = again['reference'], [again['coarse']]
    others.append(kad.paired_distances(*pair, clips)[0][0])
  assert 1 / 3 < drawn.std() / np.std(others) < 3


def test_rows_that_are_not_paired_are_refused():
  rows, clips = rows_with_a_fault('fine')
  short = rows | {'text': rows['text'][1:]}
  with pytest.raises(ValueError, match='as many rows'):
    attribution.kernel(short, clips)
  with pytest.raises(ValueError, match='2 clips'):
    kad.paired_distances(rows['reference'], [rows['fine']], 0 * clips)
  groups = {
    row: [EmbeddingStatistics.empty(WIDTH).update(x)]
    for row, x in short.items()
  }
  with pytest.raises(ValueError, match='the same groups'):
    attribution.frechet(groups)
