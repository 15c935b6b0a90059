"""Intervals against a plain loop, and what they ignore."""

import jax
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.melody.model import Intervals, MelodyViT, compare, salience

SPECTROGRAM = {
  'window_length': 3072,
  'hop_length': 1920,
  'fft_size': 4096,
  'low_hz': 80.0,
  'high_hz': 3200.0,
}
BANDS_PER_SEMITONE = 127 / (12 * np.log2(40.0))
MELODY, OTHER = (0, 4, 2, 7, 5), (0, -3, 5, 5, -1)


@jax.jit
def _intervals(waveform):
  salient = salience(waveform, sample_rate=24_000, num_bands=128, **SPECTROGRAM)
  return Intervals()(
    salient, frame_rate=12.5, bands_per_semitone=BANDS_PER_SEMITONE
  )


def _play(melody, pitch, partials=6):
  """Notes of 0.4 s in harmonic tones, [48_000]."""
  hertz = 440 * 2 ** ((pitch - 69 + np.repeat(melody, 9_600)) / 12)
  phase = 2 * np.pi * np.cumsum(hertz) / 24_000
  tones = [np.sin(k * phase) / k for k in range(1, partials + 1)]
  return 0.1 * np.sum(tones, axis=0).astype(np.float32)


def _cosines(rows):
  x = np.asarray(rows).reshape(len(rows), -1)
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  return x @ x.T


def test_comparison_is_that_of_a_plain_loop():
  x = np.random.default_rng(0).uniform(size=(2, 6, 9)).astype(np.float32)
  expected = np.zeros((2, 6, 7))
  for t in range(2, 6):
    for k in range(-3, 4):
      for f in range(9):
        if 0 <= f + k < 9:
          expected[:, t, 3 + k] += x[:, t, f + k] * x[:, t - 2, f]
  np.testing.assert_allclose(compare(x, 2, 3), expected, atol=1e-5)


def test_an_interval_is_where_it_is_said_to_be():
  rows = np.asarray(_intervals(_play(MELODY, 60, partials=1)[None]))[0]
  count = rows.shape[-1] // 3
  after_a_note = rows[:, count : 2 * count]  # 0.4 s
  for note, interval in enumerate(np.diff(MELODY), start=1):
    found = after_a_note[5 * note + 2].argmax() - (count - 1) / 2
    assert found / BANDS_PER_SEMITONE == pytest.approx(interval, abs=0.6)


def test_a_transposed_melody_has_the_same_intervals_and_another_has_not():
  played = [_play(MELODY, 60), _play(MELODY, 67), _play(MELODY, 53, 3)]
  found = _cosines(_intervals(np.stack([*played, _play(OTHER, 60)])))
  assert found[:3, :3].min() > 0.6
  assert found[:3, 3].max() < found[:3, :3].min() - 0.3


def test_level_is_ignored_and_silence_is_finite():
  sound = _play(MELODY, 60)
  rows = np.asarray(_intervals(np.stack([sound, 0.01 * sound, 0.0 * sound])))
  np.testing.assert_allclose(rows[0], rows[1], atol=2e-3)
  np.testing.assert_array_equal(rows[2], 0.0)


def test_an_untrained_network_recognises_a_transposed_melody_by_intervals():
  """And by mel bands it does not: that is what they are for."""
  clips = [_play(melody, p) for melody in (MELODY, OTHER) for p in (57, 62)]
  apart = {}
  for intervals in (None, Intervals()):
    network = MelodyViT(
      num_layers=1, intervals=intervals, segments=5, **SPECTROGRAM
    )
    rows, _ = jax.jit(network.init_with_output)(
      jax.random.key(0), np.stack(clips)
    )
    cosines = _cosines(rows)
    own = min(cosines[0, 1], cosines[2, 3])
    apart[intervals is not None] = own - cosines[:2, 2:].max()
  assert apart[True] > 0.1 > apart[False]


def test_segments_must_divide_the_frames():
  network = MelodyViT(num_layers=1, segments=7, **SPECTROGRAM)
  with pytest.raises(UsageError, match='25 frames do not make 7'):
    network.init(jax.random.key(0), np.zeros((1, 48_000), np.float32))
