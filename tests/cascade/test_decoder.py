"""Decoding a long stream in blocks gives the samples of one decode."""

import numpy as np

from musiclm_jax.cascade.decoder import decode


def test_blocks_equal_the_whole(tiny):
  codec = tiny.networks['soundstream']
  for frames in (7, 60, 61, 145):
    codes = np.random.default_rng(0).integers(16, size=(2, frames, 4))
    whole = decode(codec, codes)
    blocks = decode(codec, codes, block_frames=30, context_frames=30)
    assert blocks.shape == whole.shape == (2, frames * 480)
    np.testing.assert_allclose(blocks, whole, atol=1e-5)
    assert np.abs(whole).max() > 1e-3
