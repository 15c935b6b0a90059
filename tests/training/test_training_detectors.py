"""Slow troubles: a planted fault each, and what is no fault."""

import json
import math

import numpy as np
import pytest

from musiclm_jax.contracts.task import HealthCheck
from musiclm_jax.training.detectors import (
  DETECTORS,
  Alarms,
  slow_input,
)

TOTAL = 1000
collapsed_codebook = DETECTORS['collapsed codebook']
at_chance = DETECTORS['at chance']
silent_discriminator = DETECTORS['silent discriminator']


def rows(metric, values, every=20, **others):
  """A record with a log every 20 steps."""
  return [
    {'step': every * (i + 1), metric: value, **others}
    for i, value in enumerate(values)
  ]


BOOK = HealthCheck('collapsed codebook', 'perplexity_level_3', 256)


def test_a_codebook_that_collapses_is_found_with_its_level():
  fallen = [90.0] * 4 + [11.0] * 6  # 256 codes: 5 % of the way is 13.75
  line = collapsed_codebook(rows(BOOK.metric, fallen), BOOK, TOTAL)
  assert 'perplexity_level_3 is 11.0' in line and 'since step 100' in line
  for healthy in (
    [90.0] * 4 + [11.0] * 5,  # not yet 100 steps
    [11.0] * 9 + [14.5],
    [11.0, 90.0] * 5,
    [11.0] * 9 + [None],
  ):
    record = rows(BOOK.metric, healthy)
    assert collapsed_codebook(record, BOOK, TOTAL) is None, healthy
  small = HealthCheck('collapsed codebook', 'used', 4)
  assert collapsed_codebook(rows('used', [1.0] * 9), small, TOTAL)
  assert not collapsed_codebook(rows('used', [1.5] * 9), small, TOTAL)


def test_nothing_is_said_of_a_codebook_before_it_is_fitted():
  late = HealthCheck('collapsed codebook', 'used', 16, since=100)
  record = rows('used', [1.0] * 5 + [12.0] * 5)
  assert collapsed_codebook(record, late, TOTAL) is None
  assert collapsed_codebook(rows('used', [1.0] * 10), late, TOTAL) is None
  assert collapsed_codebook(rows('used', [1.0] * 11), late, TOTAL)


def test_mulan_at_ln_batch_is_found_and_a_slow_start_is_not():
  check = HealthCheck('at chance', 'loss', 'chance_loss')
  chance = math.log(62)
  stuck = rows('loss', [chance + 0.01] * 6, chance_loss=chance)
  assert 'a guess has 4.1271' in at_chance(stuck, check, TOTAL)
  assert at_chance(stuck, check, 10 * TOTAL) is None  # not yet a tenth
  learning = [chance - 0.05] * 6
  assert not at_chance(rows('loss', learning, chance_loss=chance), check, TOTAL)
  assert at_chance(rows('loss', [chance] * 6), check, TOTAL) is None


@pytest.mark.parametrize('metric, mute', [('loss_d', 2.0), ('grad_norm_d', 0)])
def test_a_silent_discriminator_is_found_by_loss_and_by_gradient(metric, mute):
  check = HealthCheck('silent discriminator', metric, mute, since=60)
  still = [0.5] * 3 + [mute + 1e-7] * 6
  assert metric in silent_discriminator(rows(metric, still), check, TOTAL)
  moving = [0.5] * 3 + [mute + 0.05] * 6
  assert silent_discriminator(rows(metric, moving), check, TOTAL) is None


def test_a_slow_input_is_found_when_it_has_cost_something():
  def speeds(shares, seconds):
    return [
      {'data_share': share, 'seconds_data': second}
      for share, second in zip(shares, seconds, strict=True)
    ]

  assert '60 %' in slow_input(speeds([0.1, 0.4, 0.6], [5, 15, 26]))
  assert slow_input(speeds([0.1, 0.4, 0.6], [5, 15, 24])) is None
  assert slow_input(speeds([0.9, 0.9, 0.1], [50, 90, 91])) is None
  assert slow_input(speeds([0.0], [0])) is None


def test_alarms_are_given_once_and_alike_in_one_part_or_two():
  """The rows of the record are all that an alarm depends on."""
  health_checks = [
    HealthCheck('collapsed codebook', 'used', 64),
    HealthCheck('at chance', 'loss', 4.0),
  ]
  rng = np.random.default_rng(0)
  used = np.where(np.arange(60) < 20, 40.0, 1.5) + 0.1 * rng.random(60)
  record = rows('used', used.tolist(), loss=4.0)

  def play(cuts):
    alarms, written, given = Alarms(health_checks, TOTAL), [], []
    for i, row in enumerate(record):
      if i in cuts:
        kept = [json.loads(line) for line in written]
        alarms = Alarms(health_checks, TOTAL, kept)
      found = alarms.add(row)
      given += [(row['step'], *pair) for pair in found.items()]
      said = {'warnings': list(found)} if found else {}
      written.append(json.dumps(row | said))
    return written, given

  whole = play(())
  causes = [cause for _, cause, _ in whole[1]]
  assert causes == ['at chance: loss', 'collapsed codebook: used']
  assert [step for step, *_ in whole[1]] == [120, 520]
  for cuts in ((3, 6), (7,), (22, 24, 25, 26), (30, 50)):
    assert play(cuts) == whole


def test_every_detector_has_a_name_that_a_sign_can_give():
  assert set(DETECTORS) == {
    'collapsed codebook',
    'at chance',
    'silent discriminator',
  }
