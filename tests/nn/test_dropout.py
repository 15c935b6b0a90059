"""Dropout: how many stay, what they become, how independent they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from musiclm_jax.nn.dropout import Dropout, keep

SHAPE = (4, 101, 96)


@pytest.mark.parametrize('rate', [0.1, 0.5])
def test_a_share_is_zero_and_the_rest_is_scaled(rate):
  x = jnp.ones(SHAPE)
  drop = Dropout(rate, deterministic=False)
  y = np.asarray(drop.apply({}, x, rngs={'dropout': jax.random.key(0)}))
  low, high = binom.interval(1 - 1e-9, y.size, rate)
  assert low <= (y == 0).sum() <= high
  np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-4)


@pytest.mark.parametrize('drop', [Dropout(0.5, True), Dropout(0.0, False)])
def test_without_a_rate_or_in_use_nothing_happens(drop):
  x = jnp.ones(SHAPE)
  np.testing.assert_array_equal(drop.apply({}, x), x)


def test_elements_stay_independently_of_each_other():
  dropped = 1 << 15
  kept = np.asarray(keep(jax.random.key(1), dropped, (4, 128, 96)), float)
  kept -= 0.5
  # By one and by the four parts that share their random words.
  shifts = [(axis, by) for axis in range(3) for by in (1, 32, 64, 96)]
  for axis, by in shifts:
    if by % kept.shape[axis]:
      product = (kept * np.roll(kept, by, axis)).mean() / kept.var()
      assert abs(product) < 6 / np.sqrt(kept.size), (axis, by)
  other = np.asarray(keep(jax.random.key(2), dropped, kept.shape), float) - 0.5
  assert abs((kept * other).mean() / 0.25) < 6 / np.sqrt(kept.size)
