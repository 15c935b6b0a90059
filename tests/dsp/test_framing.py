"""Claims about framing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp.framing import centre_on_hops, frame, num_frames


@pytest.mark.parametrize('length, hop', [(8, 2), (10, 4), (7, 3), (4, 4)])
def test_frames_are_slices_of_the_signal(length, hop):
  x = np.arange(2 * 31, dtype=np.float32).reshape(2, 31)
  frames = np.asarray(frame(x, length, hop))
  assert frames.shape == (2, num_frames(31, length, hop), length)
  for t in range(frames.shape[1]):
    np.testing.assert_array_equal(
      frames[:, t], x[:, t * hop : t * hop + length]
    )


def test_frame_gradient_counts_how_often_a_sample_is_used():
  gradient = jax.grad(lambda x: frame(x, 4, 2).sum())(jnp.zeros(8))
  np.testing.assert_array_equal(gradient, [1, 1, 2, 2, 2, 2, 1, 1])


def test_a_signal_shorter_than_a_frame_or_a_frame_than_a_hop_is_refused():
  with pytest.raises(UsageError, match='at least a hop, 160 samples, got 80'):
    centre_on_hops(jnp.zeros((1, 320)), 80, 160)
  with pytest.raises(UsageError, match='at least one frame of 16'):
    frame(np.zeros(15, np.float32), 16, 4)
