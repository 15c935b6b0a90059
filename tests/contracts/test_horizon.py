"""The length of a training, also where it changed on its way."""

import numpy as np
import pytest

from musiclm_jax.contracts.horizon import Horizon


def test_a_training_of_one_length_is_cut_into_shares():
  whole = Horizon(200)
  assert whole.begins(0.3) == 0.3 * 200
  steps = np.arange(200)
  np.testing.assert_allclose(whole.share(steps, last=-1), steps / 199, 1e-6)
  assert whole.since_end == whole and whole.after(50, 200) == whole
  assert Horizon(100).after(0, 200) == whole, 'nothing is behind it'


@pytest.mark.parametrize('done', [1, 30, 99, 100])
@pytest.mark.parametrize('total', [101, 400, 40_000])
def test_what_is_behind_a_training_stays_behind_it(done, total):
  before = Horizon(100)
  now = before.after(done, total)
  np.testing.assert_allclose(now.share(done), before.share(done), 1e-6)
  shares = [float(now.share(s)) for s in (done, (done + total) // 2, total)]
  assert sorted(shares) == shares and shares[-1] == 1.0
  for share in (0.1, 0.3, 0.95):
    begins = now.begins(share)
    if share * 100 <= done:
      assert begins == share * 100
    else:
      assert done < begins < total


def test_lengths_that_change_several_times_add_up():
  there = Horizon(100).after(40, 1000)
  assert there.after(40, 100).begins(0.9) == pytest.approx(90.0)
  twice = there.after(520, 600)
  np.testing.assert_allclose(twice.share(520), 0.7, 1e-6)
  assert twice.begins(0.4) == 40.0
  assert twice.begins(0.7) == pytest.approx(520.0)
  assert twice.share(600) == 1.0
  again = twice.after(600, 1200)
  assert again.share(601) == 1.0 and again.since_end == Horizon(1200)
  assert Horizon.of({'total_steps': 9, 'earlier': [[3, 5]]}) == Horizon(
    9, ((3, 5),)
  )
