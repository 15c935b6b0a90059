"""A recording and what a codec has made after it, joined."""

import numpy as np

from musiclm_jax.cascade import continuation


def test_the_recording_stays_and_nothing_jumps_after_it():
  recording = np.sin(np.arange(4800) * 0.05).astype(np.float32)
  decoded = np.stack([np.sin(np.arange(9600) * 0.05 + p) for p in (0.0, 1.5)])
  made = continuation.Splice(recording)(decoded)
  assert made.dtype == np.float32 and made.shape == (2, 9600)
  for row, before in zip(made, decoded, strict=True):
    np.testing.assert_array_equal(row[:4800], recording)
    np.testing.assert_allclose(row[5040:], before[5040:], atol=1e-6)
  steps = np.abs(np.diff(made, axis=1))
  assert steps[:, 4799].max() < 1.5 * steps[0, :4799].max()
  assert abs(decoded[1, 4800] - recording[-1]) > 0.5, 'else it shows nothing'
  assert np.abs(made).max() <= 1.0


def test_a_joint_at_the_very_end_is_joined():
  made = continuation.Splice(np.full(9, 0.5, np.float32))(np.zeros((1, 10)))
  assert made.shape == (1, 10) and np.isfinite(made).all()


def test_in_parts_it_is_joined_as_in_one():
  rng = np.random.default_rng(0)
  recording, decoded = rng.uniform(-1, 1, 700), rng.uniform(-1, 1, (2, 2000))
  whole = continuation.Splice(recording)(decoded)
  for size in (1, 240, 300, 700, 701):
    splice = continuation.Splice(recording)
    parts = [splice(decoded[:, k : k + size]) for k in range(0, 2000, size)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
