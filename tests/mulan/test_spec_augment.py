"""SpecAugment: one stripe of frames and one of bands, of each example's own."""

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax.mulan.spec_augment import hide_stripes


def test_hides_one_stripe_along_each_axis():
  x = jnp.ones((256, 50, 32))
  y = np.asarray(hide_stripes(jax.random.key(0), x, frames=0.2, bands=0.375))
  for hidden, widest in (
    ((y == 0).all(axis=2), 10),
    ((y == 0).all(axis=1), 12),
  ):
    width = hidden.sum(axis=1)
    assert width.max() in (widest, widest + 1) and width.min() <= 1
    assert abs(width.mean() - widest / 2) < 1
    begins = (np.diff(hidden, prepend=False, axis=1) & hidden).sum(axis=1)
    assert begins.max() == 1
    assert hidden.any(axis=0).mean() > 0.9  # anywhere
    assert len(np.unique(hidden, axis=0)) > 20
  frames, bands = (y == 0).all(axis=2), (y == 0).all(axis=1)
  np.testing.assert_array_equal(y == 0, frames[:, :, None] | bands[:, None])


def test_shares_of_zero_hide_nothing():
  x = jnp.ones((4, 20, 16))
  y = hide_stripes(jax.random.key(0), x, frames=0.0, bands=0.0)
  np.testing.assert_array_equal(y, x)
